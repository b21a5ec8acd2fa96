package party

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/internal/duration"
)

// YAML returns the configuration in the format of the file, with secrets hidden.
func (c *Config) YAML() ([]byte, error) {
	var root yaml.Node
	if err := root.Encode(c); err != nil {
		return nil, fmt.Errorf("failed to encode the configuration: %w", err)
	}
	w := yamlWalk{onDuration: func(n *yaml.Node) error {
		d, err := time.ParseDuration(n.Value)
		n.Value = duration.Format(d)
		return err
	}}
	w.walk(&root, reflect.TypeFor[Config](), "")
	if len(w.invalid) > 0 {
		return nil, errors.New(strings.Join(w.invalid, "; "))
	}

	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&root); err != nil {
		return nil, fmt.Errorf("failed to encode the configuration: %w", err)
	}
	return out.Bytes(), nil
}

// readYAML reads the fields of a document. An unknown key is an error with its line.
func (c *Config) readYAML(document []byte) error {
	d := yaml.NewDecoder(bytes.NewReader(document))
	var root yaml.Node
	if err := d.Decode(&root); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("contains more than one YAML document")
	}

	// The library knows the durations of package time only, and reports neither paths nor unknown keys of a
	// node.
	w := yamlWalk{onDuration: func(n *yaml.Node) error {
		if n.Tag == "!!null" {
			return nil
		}
		d, err := duration.Parse(n.Value)
		n.SetString(d.String())
		return err
	}}
	w.walk(&root, reflect.TypeFor[Config](), "")
	if len(w.invalid) > 0 {
		return errors.New(strings.Join(w.invalid, "; "))
	}
	err := root.Decode(c)
	var invalid *yaml.TypeError
	if errors.As(err, &invalid) {
		return errors.New(strings.Join(invalid.Errors, "; "))
	}
	return err
}

// yamlWalk visits the nodes of a document that a Go type describes.
type yamlWalk struct {
	onDuration func(*yaml.Node) error
	invalid    []string
	path       []*yaml.Node // the aliases that led here; a cycle ends
}

func (w *yamlWalk) walk(n *yaml.Node, typ reflect.Type, path string) {
	switch {
	case n.Kind == yaml.DocumentNode && len(n.Content) > 0:
		w.walk(n.Content[0], typ, path)
	case n.Kind == yaml.AliasNode:
		if !slices.Contains(w.path, n.Alias) {
			w.path = append(w.path, n.Alias)
			w.walk(n.Alias, typ, path)
			w.path = w.path[:len(w.path)-1]
		}
	case typ == reflect.TypeFor[time.Duration]():
		if n.Kind != yaml.ScalarNode {
			w.fail(n, "%s: must be a duration, such as 30d, 12h or 1m30s", path)
		} else if err := w.onDuration(n); err != nil {
			w.fail(n, "%s: %v", path, err)
		}
	case n.Kind == yaml.SequenceNode && typ.Kind() == reflect.Slice:
		for i, item := range n.Content {
			w.walk(item, typ.Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
	case n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			w.walkEntry(n.Content[i], n.Content[i+1], typ, path)
		}
	}
}

// walkEntry visits one key of a mapping, and its value.
func (w *yamlWalk) walkEntry(key, value *yaml.Node, typ reflect.Type, path string) {
	inner := key.Value
	if path != "" {
		inner = path + "." + key.Value
	}
	switch {
	case key.Tag == "!!merge":
		w.walk(value, typ, path)
	case typ.Kind() == reflect.Map:
		w.walk(value, typ.Elem(), inner)
	case typ.Kind() == reflect.Struct:
		field, known := typ.FieldByNameFunc(func(name string) bool {
			f, _ := typ.FieldByName(name)
			tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			return tag == key.Value
		})
		if !known {
			w.fail(key, "unknown field %s%s", inner, suggest(typ, key.Value))
			return
		}
		w.walk(value, field.Type, inner)
	}
}

func (w *yamlWalk) fail(n *yaml.Node, format string, args ...any) {
	w.invalid = append(w.invalid, fmt.Sprintf("line %d: ", n.Line)+fmt.Sprintf(format, args...))
}

// suggest returns "; did you mean X?" if a struct has a key that resembles the given one.
func suggest(typ reflect.Type, key string) string {
	var keys []string
	for i := range typ.NumField() {
		tag, _, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ",")
		keys = append(keys, tag)
	}
	return bfia.DidYouMean(key, keys)
}
