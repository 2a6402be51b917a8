package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// missing names the fields that Kubernetes requires and that the document lacks. Its
// types say so: a field may be left out if its JSON tag has omitempty or omitzero; the
// rest is what its OpenAPI documents list as required.
func missing(object, fields any) []string { return lacks(reflect.TypeOf(object), fields, "") }

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func lacks(t reflect.Type, v any, path string) (problems []string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		return nil // a quantity, a time: one value
	}
	switch t.Kind() {
	case reflect.Struct:
		if m, ok := v.(map[string]any); ok {
			return fieldsLack(t, m, path)
		}
	case reflect.Slice:
		items, _ := v.([]any)
		for i, item := range items {
			problems = append(problems, lacks(t.Elem(), item, fmt.Sprintf("%s[%d]", path, i))...)
		}
	case reflect.Map:
		m, _ := v.(map[string]any)
		for key, item := range m {
			problems = append(problems, lacks(t.Elem(), item, path+"."+key)...)
		}
	}
	return problems
}

func fieldsLack(t reflect.Type, m map[string]any, path string) (problems []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" { // embedded: its fields stand here
			problems = append(problems, fieldsLack(f.Type, m, path)...)
			continue
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		v, ok := m[name]
		switch {
		case !ok && !strings.Contains(options, "omit"):
			problems = append(problems, fmt.Sprintf("missing field %q", at))
		case ok && v == nil:
			problems = append(problems, fmt.Sprintf("field %q has no value", at))
		case ok:
			problems = append(problems, lacks(f.Type, v, at)...)
		}
	}
	return problems
}
