//go:build integration

package alternatives_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// TestManifestsAreOfKubernetes reads the manifests with Kubernetes' own types, and sees
// that this would notice what is wrong.
func TestManifestsAreOfKubernetes(t *testing.T) {
	checker := filepath.Join(t.TempDir(), "kubernetes")
	build := exec.Command("go", "build", "-o", checker, ".")
	build.Dir = "../../testdata/kubernetes"
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	check := func(texts map[string]string) (string, error) {
		dir := t.TempDir()
		args := make([]string, 0, len(texts))
		for kind, text := range texts {
			args = append(args, filepath.Join(dir, kind))
			require.NoError(t, os.WriteFile(args[len(args)-1], []byte(text), 0o600))
		}
		out, err := exec.Command(checker, args...).CombinedOutput()
		return strings.ReplaceAll(string(out), dir+"/", ""), err
	}
	silent, err := check(manifests(t))
	require.NoError(t, err, silent)
	require.Empty(t, silent)

	for _, tc := range []struct{ kind, old, new, want string }{
		{"deployment", "maxSurge: 1", "maxSurged: 1", `unknown field "spec.strategy.rollingUpdate.maxSurged"`},
		{"deployment", "terminationGracePeriodSeconds", "terminationGraceperiodSeconds", `unknown field "spec.template.spec.terminationGraceperiodSeconds"`},
		{"deployment", "replicas: 3", "replicas: three", "cannot unmarshal string"},
		{"deployment", "replicas: 3", "replicas: 3\n  replicas: 2", `key "replicas" already set`},
		{"deployment", "            - name: http\n              containerPort", "            - name: http\n              hostPort", `missing field "spec.template.spec.containers[0].ports[0].containerPort"`},
		{"deployment", "maxSkew: 1", "minDomains: 1", `missing field "spec.template.spec.topologySpreadConstraints[0].maxSkew"`},
		{"deployment", "memory: 64Mi", "memory: 64Megs", "quantities must match"},
		{"deployment", "  selector:\n    matchLabels:\n      app.kubernetes.io/name: holdfast\n", "", `missing field "spec.selector"`},
		{"deployment", "                seconds: 5", "                # seconds: 5", `field "spec.template.spec.containers[0].lifecycle.preStop.sleep" has no value`},
		{"service", "  name: holdfast\n", "", `missing field "metadata.name"`},
		{"service", "port: 80", "# port: 80", `missing field "spec.ports[0].port"`},
		{"poddisruptionbudget", "policy/v1", "policy/v1beta1", `apiVersion "policy/v1beta1" with kind "PodDisruptionBudget" is not known`},
		{"poddisruptionbudget", "unhealthyPodEvictionPolicy", "unhealthyPodPolicy", `unknown field "spec.unhealthyPodPolicy"`},
		{"configmap", "\ndata:\n", "\ndatum:\n", `unknown field "datum"`},
	} {
		texts := manifests(t)
		require.Contains(t, texts[tc.kind], tc.old)
		texts[tc.kind] = strings.Replace(texts[tc.kind], tc.old, tc.new, 1)
		out, err := check(texts)
		require.Error(t, err, tc.new)
		require.Contains(t, out, tc.kind+": ", tc.new)
		require.Contains(t, out, tc.want, tc.new)
	}
}

// TestProbesOfTheManifests asks the real service, with the configuration of the ConfigMap,
// what the kubelet would.
func TestProbesOfTheManifests(t *testing.T) {
	c, dir := parse(t, manifests(t)), t.TempDir()
	binary := filepath.Join(dir, "holdfast")
	loadtest.Build(t, binary, ".")
	key, text := c.file()
	config := filepath.Join(dir, key)
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))

	out, err := exec.Command(binary, "check", "--config", config).CombinedOutput()
	require.NoError(t, err, "%s", out)
	wrong := config + ".wrong"
	require.NoError(t, os.WriteFile(wrong, []byte(strings.Replace(text, "drain-timeout", "drain-time", 1)), 0o600))
	out, err = exec.Command(binary, "check", "--config", wrong).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), `unknown setting "drain-time"`)

	serve := load.Serve(binary, dir, "127.0.0.1:0")
	serve.Args = append(serve.Args, "--config", config)
	p, err := serve.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	ask := func(path string) error {
		out, err := exec.Command(binary, "probe", "--addr", p.Addr("http").Address, "http "+path+" status=200 timeout=2s").CombinedOutput()
		t.Logf("%s", out)
		return err
	}
	box := c.deployment.Spec.Template.Spec.Containers[0]
	for _, probe := range []probe{box.Startup, box.Readiness, box.Liveness} {
		require.NoError(t, ask(probe.HTTP.Path))
	}
	require.Error(t, ask("/healthz"), "a path that is not there")
	require.NoError(t, p.Stop(t.Context()))
}
