package party

import (
	"fmt"
	"io"
	"log/slog"
)

// hidden stands for a secret wherever it would be shown. An empty secret is shown as empty: that it is missing is no
// secret, and is what one looks for.
const hidden = "***"

// Secret is a value that no log, message or printed configuration shows, whichever way it is formatted. Only
// [Secret.Reveal] gives it away.
type Secret string

// Reveal is the value itself, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// String is "***", or "" if there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format writes what String gives for every verb: %#v and %x must not give the value away either.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalYAML hides the value from printed configurations.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// MarshalText hides the value from JSON and everything else that writes text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the value from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
