package party

import (
	"fmt"
	"io"
	"log/slog"
)

// hidden replaces a secret in output. An empty secret is shown as empty, so that an operator sees that it is
// missing.
const hidden = "***"

// Secret is a string that is hidden in logs, messages and printed configurations, however it is formatted.
// Only [Secret.Reveal] returns it.
type Secret string

// Reveal returns the value, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// String returns "***", or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format writes the result of String for every verb, so that %#v and %x don't reveal the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalYAML hides the value from printed configurations.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// MarshalText hides the value from JSON and other text encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the value from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
