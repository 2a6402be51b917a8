package settings

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
)

// Args writes the value of a flag as arguments that give it again.
func Args(f *kong.Flag) []string {
	v := f.Target
	switch {
	case v.Kind() == reflect.Bool && v.Bool():
		return []string{"--" + f.Name}
	case v.Kind() == reflect.Bool:
		return []string{"--" + f.Name + "=false"}
	case v.Kind() != reflect.Slice:
		return arg(f, v)
	}
	var args []string
	for i := range v.Len() {
		args = append(args, arg(f, v.Index(i))...)
	}
	return args
}

// arg writes one value, which may hold the separator, or begin like a flag.
func arg(f *kong.Flag, v reflect.Value) []string {
	name, text := "--"+f.Name, fmt.Sprint(v.Interface())
	if f.IsSlice() && f.Tag.Sep != -1 {
		text = strings.ReplaceAll(text, string(f.Tag.Sep), `\`+string(f.Tag.Sep))
	}
	if text == "" || strings.HasPrefix(text, "-") {
		return []string{name + "=" + text}
	}
	return []string{name, text}
}
