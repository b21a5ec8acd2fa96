package bfia

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// DecodeJSON reads exactly one JSON value. Its errors are bad requests that name the field, or the position
// in the text, and the expected type.
func DecodeJSON(body []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(into); err != nil {
		return jsonError(err)
	}
	end := dec.InputOffset()
	if _, err := dec.Token(); err != io.EOF {
		return Errorf(CodeBadRequest, "body: the JSON value ends at byte %d, but more text follows", end)
	}
	return nil
}

// Field is one field of an object that [DecodeFields] reads.
//
// Errors of encoding/json do not name the index in a list, the key in a map, or the fields around a type that
// decodes itself. Errors of this package name the whole path.
type Field struct {
	name     string
	into     any // a pointer, or a func([]byte) error
	required bool
}

// Required returns a field that must be present.
func Required(name string, into any) Field { return Field{name, into, true} }

// Optional returns a field that may be absent or null.
func Optional(name string, into any) Field { return Field{name, into, false} }

// DecodeFields reads fields of an object. It treats null as absent.
func DecodeFields(object map[string]json.RawMessage, fields ...Field) error {
	for _, f := range fields {
		raw, ok := object[f.name]
		if !ok || string(raw) == "null" {
			if f.required {
				return Errorf(CodeBadRequest, "%s: is required", f.name)
			}
			continue
		}
		if err := decodeValue(raw, f.into); err != nil {
			return PrefixField(f.name, err)
		}
	}
	return nil
}

func decodeValue(raw []byte, into any) error {
	if decode, ok := into.(func([]byte) error); ok {
		return decode(raw)
	}
	return DecodeJSON(raw, into)
}

// ListOf decodes a list. Its errors name the index.
func ListOf[T any](into *[]T) func([]byte) error {
	return func(b []byte) error {
		var raws []json.RawMessage
		if err := DecodeJSON(b, &raws); err != nil {
			return err
		}
		*into = make([]T, len(raws))
		for i, raw := range raws {
			if err := DecodeJSON(raw, &(*into)[i]); err != nil {
				return PrefixField("["+itoa(i)+"]", err)
			}
		}
		return nil
	}
}

// MapOf decodes an object. Its errors name the key: the first one in sorted order, so that the same text
// always gives the same error. decode returns the target for one value; nil decodes the value as it is.
func MapOf[T any](into *map[string]T, decode func(*T) any) func([]byte) error {
	return func(b []byte) error {
		var raws map[string]json.RawMessage
		if err := DecodeJSON(b, &raws); err != nil {
			return err
		}
		*into = make(map[string]T, len(raws))
		for _, key := range sortedKeys(raws) {
			var value T
			var target any = &value
			if decode != nil {
				target = decode(&value)
			}
			if err := decodeValue(raws[key], target); err != nil {
				return PrefixField(key, err)
			}
			(*into)[key] = value
		}
		return nil
	}
}

func jsonError(err error) error {
	var typ *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	var own *Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &typ):
		place := typ.Field
		if place == "" {
			place = "body"
		}
		if number, ok := strings.CutPrefix(typ.Value, "number "); ok {
			return Errorf(CodeBadRequest, "%s: the number %s is too large or not whole", place, number)
		}
		return Errorf(CodeBadRequest, "%s: is a JSON %s, must be %s", place, typ.Value,
			expectedKind(typ.Type.Kind().String()))
	case errors.As(err, &syntax):
		return Errorf(CodeBadRequest, "body: is not valid JSON: %v at byte %d", syntax, syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Errorf(CodeBadRequest, "body: the JSON is incomplete")
	}
	return Wrap(CodeBadRequest, err, "body: is not readable as JSON")
}

func expectedKind(kind string) string {
	switch kind {
	case "struct", "map":
		return "an object"
	case "slice", "array":
		return "a list"
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	}
	return "a number"
}

// PrefixField adds the name of a field to an error about its content.
func PrefixField(name string, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	msg := e.Message
	if rest, ok := strings.CutPrefix(msg, "body: "); ok {
		msg = name + ": " + rest
	} else if strings.HasPrefix(msg, "[") {
		msg = name + msg
	} else {
		msg = name + "." + msg
	}
	return &Error{Code: e.Code, Message: msg, Cause: e.Cause}
}
