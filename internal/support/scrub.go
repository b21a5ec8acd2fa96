package support

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

const hidden = "***"

// shortest is the length of the shortest secret that is searched for by its value: a shorter one would hide
// ordinary words.
const shortest = 6

// looksSecret matches what looks like a secret. Its groups are what stays.
var looksSecret = []*regexp.Regexp{
	regexp.MustCompile(
		`(?s)(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----).*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`),
	// The user and password of a URL. Neither may contain a slash, so this doesn't reach beyond the host.
	regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^/\s"'?#]*(@)`),
	// Tokens of Hutong's clients, and id tokens and other JSON web tokens.
	regexp.MustCompile(`\b(ht_)[A-Za-z0-9_-]{8,}`),
	regexp.MustCompile(`\b(eyJ)[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?`),
	regexp.MustCompile(`(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}`),
	// password=..., "password": "...", api-key: ... A quoted value may have spaces.
	regexp.MustCompile(
		`(?i)((?:password|passwd|secret|token|api[_-]?key|access[_-]?key)s?\\?["']?[ \t]*[=:][ \t]*)` +
			`(?:\\?"[^"]+"|'[^']+'|[^\s"',;&{}\[\]][^\s"',;&}\]]*)`),
}

// scrubber removes secrets from the files of an archive.
type scrubber struct{ secrets []string }

// newScrubber returns a scrubber for secrets that are known by their values.
func newScrubber(secrets []string) scrubber {
	var s scrubber
	for _, secret := range secrets {
		if len(secret) >= shortest {
			s.secrets = append(s.secrets, secret)
		}
	}
	// The longest first, so that no part of a secret stays that contains another one.
	slices.SortFunc(s.secrets, func(a, b string) int { return len(b) - len(a) })
	return s
}

// scrub returns the data without secrets, and how many it has removed.
func (s scrubber) scrub(data []byte) ([]byte, int) {
	removed := 0
	for _, secret := range s.secrets {
		if n := bytes.Count(data, []byte(secret)); n > 0 {
			data, removed = bytes.ReplaceAll(data, []byte(secret), []byte(hidden)), removed+n
		}
	}
	for _, pattern := range looksSecret {
		data = pattern.ReplaceAllFunc(data, func(match []byte) []byte {
			var kept []string
			for _, group := range pattern.FindSubmatch(match)[1:] {
				kept = append(kept, string(group))
			}
			if len(kept) == 1 {
				kept = append(kept, "")
			}
			if strings.Trim(string(match[len(kept[0]):]), "\"'") == hidden {
				return match // it is hidden already
			}
			clean := []byte(strings.Join(kept, hidden))
			if quoted := match[len(kept[0]):]; kept[1] == "" && bytes.HasPrefix(quoted, []byte(`"`)) {
				clean = []byte(kept[0] + `"` + hidden + `"`) // JSON stays JSON
			}
			if !bytes.Contains(match, []byte(hidden)) {
				removed++
			}
			return clean
		})
	}
	return data, removed
}
