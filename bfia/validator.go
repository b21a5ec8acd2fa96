package bfia

import (
	"encoding/json"
	"math/big"
	"regexp"
	"strings"
)

// validator is what a description's validator allows (part 2, 6.5): (inf,sup) bounds a number, regular:'...' is a
// regular expression.
type validator interface{ allows(text string) bool }

type bounds struct {
	low, high         *big.Float // nil is unbounded
	withLow, withHigh bool       // [ and ]
}

type pattern struct{ re *regexp.Regexp }

var boundsForm = regexp.MustCompile(`^([(\[（【])([^,，]*)[,，]([^,，]*)([)\]）】])$`)

// maxPattern bounds the text of a regular expression, since a description comes from outside.
const maxPattern = 1 << 10

// parseValidator reads a validator; nil for what can't be checked, such as the specification's placeholder regular-....
func parseValidator(raw json.RawMessage) validator {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return nil
	}
	text = strings.TrimSpace(text)
	if words, ok := strings.CutPrefix(text, "regular:"); ok {
		words = strings.TrimSpace(words)
		for _, quote := range []string{"'", `"`, "/", "‘’", "“”"} {
			first, last := []rune(quote)[0], []rune(quote)[len([]rune(quote))-1]
			if inner, ok := strings.CutPrefix(words, string(first)); ok {
				if inner, ok := strings.CutSuffix(inner, string(last)); ok {
					words = inner
					break
				}
			}
		}
		if words == "" || len(words) > maxPattern {
			return nil
		}
		re, err := regexp.Compile(words)
		if err != nil {
			return nil // another engine's dialect, such as one with look-ahead
		}
		return pattern{re}
	}
	m := boundsForm.FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	b := bounds{withLow: m[1] == "[" || m[1] == "【", withHigh: m[4] == "]" || m[4] == "】"}
	var ok bool
	if b.low, ok = bound(m[2]); !ok {
		return nil
	}
	if b.high, ok = bound(m[3]); !ok {
		return nil
	}
	return b
}

// bound reads one end of an interval; nil is infinite.
func bound(text string) (*big.Float, bool) {
	text = strings.TrimSpace(text)
	switch strings.ToLower(strings.TrimLeft(text, "+-")) {
	case "", "inf", "sup", "infinity", "∞":
		return nil, true
	}
	return numberOf(text)
}

var decimalForm = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

// numberOf reads a decimal number; other spellings that Go knows, such as 0x10, are none for other vendors.
func numberOf(text string) (*big.Float, bool) {
	if text = strings.TrimSpace(text); !decimalForm.MatchString(text) {
		return nil, false
	}
	return new(big.Float).SetString(text)
}

func (b bounds) allows(text string) bool {
	n, ok := numberOf(text)
	if !ok {
		return true // what is no number is the type's matter
	}
	if b.low != nil {
		if c := n.Cmp(b.low); c < 0 || c == 0 && !b.withLow {
			return false
		}
	}
	if b.high != nil {
		if c := n.Cmp(b.high); c > 0 || c == 0 && !b.withHigh {
			return false
		}
	}
	return true
}

func (p pattern) allows(text string) bool { return p.re.MatchString(text) }
