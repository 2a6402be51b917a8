package settings

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// File is the type of the --config flag: reading it adds the file's values to
// the settings, below flags and environment.
//
// The file is YAML, a mapping from flag names to values, a list where a flag is
// repeatable:
//
//	addr: [":8080", "unix:/run/app/app.sock"]
//	drain-timeout: 45s
//
// An unknown key is an error with its line; but a command that only looks for the
// service takes what it needs.
type File string

// BeforeResolve reads the file. kong calls it once the path is known.
func (f File) BeforeResolve(k *kong.Kong, ctx *kong.Context, trace *kong.Path) error {
	path := string(ctx.FlagValue(trace.Flag).(File))
	if path == "" {
		return nil
	}
	values, err := read(path)
	if err != nil {
		return err
	}
	if err := values.check(ctx); err != nil {
		return err
	}
	ctx.AddResolver(values)
	return nil
}

// values are the entries of one file.
type values struct {
	path    string
	entries map[string]entry
}

// entry is one setting: one item, or several where the file has a list.
type entry struct {
	items []item
	line  int
}

type item struct {
	value string
	line  int
}

// text gives an entry as the flag would be written: its items between separators.
func (e entry) text(sep rune) string {
	var parts []string
	for _, it := range e.items {
		if sep != -1 {
			it.value = strings.ReplaceAll(it.value, string(sep), `\`+string(sep))
		}
		parts = append(parts, it.value)
	}
	return strings.Join(parts, string(sep))
}

func read(path string) (*values, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		// The library's text is a sketch of several lines; the first one says it.
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, fmt.Errorf("%s: %s", path, first)
	}
	v := &values{path: path, entries: map[string]entry{}}
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		m, ok := doc.Body.(ast.MapNode)
		if !ok {
			if doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType {
				continue
			}
			return nil, fmt.Errorf("%s:%d: want a mapping from setting to value", path, doc.Body.GetToken().Position.Line)
		}
		for it := m.MapRange(); it.Next(); {
			key, line := it.Key().GetToken().Value, it.Key().GetToken().Position.Line
			items, err := scalars(it.Value())
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %s: %w", path, line, key, err)
			}
			if _, twice := v.entries[key]; twice {
				return nil, fmt.Errorf("%s:%d: %s stands there twice", path, line, key)
			}
			v.entries[key] = entry{items, line}
		}
	}
	return v, nil
}

// scalars gives the items of a value: one, or those of a list.
func scalars(n ast.Node) ([]item, error) {
	switch n := n.(type) {
	case *ast.SequenceNode:
		var all []item
		for _, v := range n.Values {
			items, err := scalars(v)
			if err != nil {
				return nil, err
			}
			all = append(all, items...)
		}
		return all, nil
	case ast.MapNode:
		return nil, errors.New("want a value or a list, this is a mapping")
	case *ast.NullNode:
		return nil, errors.New("the value is missing")
	case ast.ScalarNode:
		t := n.GetToken()
		return []item{{t.Value, t.Position.Line}}, nil
	}
	return nil, fmt.Errorf("want a value or a list, this is a %s", n.Type())
}

// check refuses keys that no flag of the command has, and values that the flag
// would refuse: here the line is known. The first one in the file is reported.
func (v *values) check(ctx *kong.Context) error {
	flags := map[string]*kong.Flag{}
	for _, group := range ctx.Selected().AllFlags(true) {
		for _, f := range group {
			if IsSetting(f) {
				flags[f.Name] = f
			}
		}
	}
	delete(flags, "config")
	keys := slices.SortedFunc(maps.Keys(v.entries), func(a, b string) int { return v.entries[a].line - v.entries[b].line })
	for _, key := range keys {
		e := v.entries[key]
		f, ok := flags[key]
		if !ok && flags["drain-timeout"] == nil {
			continue // a command that only wants to find the service
		}
		if !ok {
			return fmt.Errorf("%s:%d: unknown setting %q: the keys are the names of the flags of 'holdfast serve'", v.path, e.line, key)
		}
		if len(e.items) > 1 && !f.IsSlice() {
			return fmt.Errorf("%s:%d: %s: want one value, this is a list", v.path, e.line, key)
		}
		// One by one, for the line.
		for _, it := range e.items {
			scratch := reflect.New(f.Target.Type()).Elem()
			text := entry{items: []item{it}}.text(f.Tag.Sep)
			if err := f.Mapper.Decode(&kong.DecodeContext{Value: f.Value, Scan: kong.Scan().PushTyped(text, kong.FlagValueToken)}, scratch); err != nil {
				return fmt.Errorf("%s:%d: %s: %w", v.path, it.line, key, err)
			}
		}
	}
	return nil
}

// IsSetting tells a setting from a flag that says what a command shall do, which the file
// does not have: that one is tagged setting:"-".
func IsSetting(f *kong.Flag) bool { return f.Name != "help" && f.Tag.Get("setting") != "-" }

// Validate implements kong.Resolver.
func (v *values) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver: what neither a flag nor the environment sets.
func (v *values) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !IsSetting(flag) {
		return nil, nil
	}
	for _, env := range flag.Envs {
		if _, set := os.LookupEnv(env); set {
			return nil, nil
		}
	}
	e, ok := v.entries[flag.Name]
	if !ok {
		return nil, nil
	}
	return e.text(flag.Tag.Sep), nil
}
