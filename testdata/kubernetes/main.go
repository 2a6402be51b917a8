// Command kubernetes checks manifests as strictly as an API server that is asked to be
// strict: against Kubernetes' own types. It is a module of its own, for nothing else
// here needs those.
//
//	kubernetes FILE…
//
// It prints each problem in one line and exits with 1 if there is one, 2 if it cannot
// look. What it knows: kinds, field names with their case, types, fields twice, fields
// that are missing. What it does not: whether a value of the right type is allowed.
package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// kinds makes an empty object of each kind that is known here.
var kinds = map[metav1.TypeMeta]func() metav1.Object{
	{APIVersion: "apps/v1", Kind: "Deployment"}:            func() metav1.Object { return &appsv1.Deployment{} },
	{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"}: func() metav1.Object { return &policyv1.PodDisruptionBudget{} },
	{APIVersion: "v1", Kind: "ConfigMap"}:                  func() metav1.Object { return &corev1.ConfigMap{} },
	{APIVersion: "v1", Kind: "Service"}:                    func() metav1.Object { return &corev1.Service{} },
}

var separator = regexp.MustCompile(`(?m)^---\s*$`)

func main() {
	bad := false
	for _, path := range os.Args[1:] {
		text, err := os.ReadFile(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		for _, doc := range separator.Split(string(text), -1) {
			for _, problem := range check([]byte(doc)) {
				bad = true
				fmt.Printf("%s: %s\n", path, problem)
			}
		}
	}
	if bad {
		os.Exit(1)
	}
}

// check returns what is wrong with one document.
func check(doc []byte) (problems []string) {
	raw, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return []string{err.Error()}
	}
	if bytes.Equal(raw, []byte("null")) {
		return nil // nothing but comments
	}
	var kind metav1.TypeMeta
	var fields any
	if err := json.UnmarshalCaseSensitivePreserveInts(raw, &kind); err != nil {
		return []string{err.Error()}
	}
	if err := json.UnmarshalCaseSensitivePreserveInts(raw, &fields); err != nil {
		return []string{err.Error()}
	}
	empty, ok := kinds[kind]
	if !ok {
		return []string{fmt.Sprintf("apiVersion %q with kind %q is not known here", kind.APIVersion, kind.Kind)}
	}
	object := empty()
	strict, err := json.UnmarshalStrict(raw, object)
	if err != nil {
		return []string{err.Error()}
	}
	for _, err := range strict {
		problems = append(problems, err.Error())
	}
	if object.GetName() == "" {
		problems = append(problems, `missing field "metadata.name"`) // optional in the type, for templates
	}
	return append(problems, missing(object, fields)...)
}
