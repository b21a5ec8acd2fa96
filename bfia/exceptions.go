package bfia

import (
	"encoding/json"
	"slices"
	"strings"
)

// Exceptions are the parts of the container profile that a provider asks to be left out. A runner grants
// them only after an administrator of the party approved them for this provider. They are Hutong's addition.
type Exceptions struct {
	// Root lets a container run as the user of its image, root by default, instead of an unprivileged one.
	Root bool `json:"root,omitempty"`
	// Writable gives a container a writable root file system, which its image fills.
	Writable bool `json:"writable,omitempty"`
}

// The names of the exceptions, in registrations, commands and messages.
const (
	ExceptionRoot     = "root"
	ExceptionWritable = "writable"
)

// UnmarshalJSON refuses exceptions that this version does not know, because a container would start without
// them.
func (e *Exceptions) UnmarshalJSON(b []byte) error {
	var fields map[string]json.RawMessage
	if err := DecodeJSON(b, &fields); err != nil {
		return err
	}
	*e = Exceptions{}
	for _, name := range sortedKeys(fields) {
		var wanted bool
		if err := json.Unmarshal(fields[name], &wanted); err != nil {
			return Errorf(CodeBadRequest, "%s: is %s, must be true or false", name, fields[name])
		}
		if !e.set(name, wanted) {
			return Errorf(CodeBadRequest, "%s: is not an exception, must be %q or %q", name, ExceptionRoot,
				ExceptionWritable)
		}
	}
	return nil
}

// set sets an exception, and reports whether it has that name.
func (e *Exceptions) set(name string, wanted bool) bool {
	switch name {
	case ExceptionRoot:
		e.Root = wanted
	case ExceptionWritable:
		e.Writable = wanted
	default:
		return false
	}
	return true
}

// ParseExceptions reads a list of names, separated by commas. "none" is the empty list.
func ParseExceptions(list string) (Exceptions, error) {
	var e Exceptions
	if strings.TrimSpace(list) == "none" {
		return e, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		if !e.set(strings.TrimSpace(name), true) {
			return Exceptions{}, Errorf(CodeBadRequest, "%q is not an exception, must be %q or %q", name,
				ExceptionRoot, ExceptionWritable)
		}
	}
	return e, nil
}

// Names returns the names of the exceptions, sorted. It returns nil if there are none.
func (e Exceptions) Names() (names []string) {
	if e.Root {
		names = append(names, ExceptionRoot)
	}
	if e.Writable {
		names = append(names, ExceptionWritable)
	}
	return names
}

// String returns the names separated by commas, or "none".
func (e Exceptions) String() string {
	if names := e.Names(); len(names) > 0 {
		return strings.Join(names, ",")
	}
	return "none"
}

// Beyond returns those exceptions of e that approved does not contain.
func (e Exceptions) Beyond(approved Exceptions) Exceptions {
	return Exceptions{Root: e.Root && !approved.Root, Writable: e.Writable && !approved.Writable}
}

// Equal reports whether both contain the same exceptions.
func (e Exceptions) Equal(other Exceptions) bool { return slices.Equal(e.Names(), other.Names()) }
