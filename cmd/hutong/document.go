package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"hutong/bfia"
)

// readFile reads a JSON object from a file, or from standard input if name is "-". It keeps the values as
// they are written. A byte order mark is dropped; with one the file may also be UTF-16, as PowerShell writes
// it.
func readFile(name string, stdin io.Reader) (map[string]json.RawMessage, error) {
	var document []byte
	var err error
	if name == "-" {
		name = "standard input"
		document, err = io.ReadAll(stdin)
	} else {
		document, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, err
	}
	document, _, err = transform.Bytes(unicode.BOMOverride(transform.Nop), document)
	if err != nil {
		return nil, fmt.Errorf("%s: failed to decode UTF-16: %w", name, err)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(document, &object); err != nil {
		return nil, fmt.Errorf("%s: %w", name, locateJSON(document, err))
	}
	if object == nil {
		return nil, fmt.Errorf("%s: must be a JSON object, but is null", name)
	}
	// The request would carry only one of the values.
	if repeated := bfia.RepeatedFields(document); len(repeated) > 0 {
		return nil, fmt.Errorf("%s: %s is given more than once; keep one value", name, repeated[0])
	}
	return object, nil
}

// locateJSON adds the line number of a syntax error.
func locateJSON(document []byte, err error) error {
	if len(bytes.TrimSpace(document)) == 0 {
		return errors.New("is empty; must be a JSON object")
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		line := 1 + bytes.Count(document[:min(int(syntax.Offset), len(document))], []byte("\n"))
		return fmt.Errorf("line %d: %w", line, err)
	}
	return errors.New("must be a JSON object")
}
