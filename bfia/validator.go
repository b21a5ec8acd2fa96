package bfia

import (
	"encoding/json"
	"math/big"
	"regexp"
	"strings"
)

// validator is the rule of a description's validator field (part 2, 6.5): (inf,sup) bounds a number,
// regular:'...' is a regular expression.
type validator interface{ allows(text string) bool }

type bounds struct {
	low, high         *big.Float // nil is unbounded
	withLow, withHigh bool       // [ and ]
}

type pattern struct{ re *regexp.Regexp }

var boundsForm = regexp.MustCompile(`^([(\[（【])([^,，]*)[,，]([^,，]*)([)\]）】])$`)

// maxPattern bounds the length of a regular expression, since descriptions come from outside.
const maxPattern = 1 << 10

// parseValidator reads a validator. It returns nil for one that can't be checked, such as the specification's
// placeholder regular-....
func parseValidator(raw json.RawMessage) validator {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return nil
	}
	text = strings.TrimSpace(text)
	if expression, ok := strings.CutPrefix(text, "regular:"); ok {
		expression = strings.TrimSpace(expression)

		// Published descriptions quote the expression in different ways.
		for _, quote := range []string{"'", `"`, "/", "‘’", "“”"} {
			first, last := []rune(quote)[0], []rune(quote)[len([]rune(quote))-1]
			if inner, ok := strings.CutPrefix(expression, string(first)); ok {
				if inner, ok := strings.CutSuffix(inner, string(last)); ok {
					expression = inner
					break
				}
			}
		}

		if expression == "" || len(expression) > maxPattern {
			return nil
		}
		re, err := regexp.Compile(expression)
		if err != nil {
			return nil // another regular expression dialect, such as one with look-ahead
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

// numberOf reads a decimal number. It does not accept other spellings of Go, such as 0x10, which other
// implementations don't know.
func numberOf(text string) (*big.Float, bool) {
	if text = strings.TrimSpace(text); !decimalForm.MatchString(text) {
		return nil, false
	}
	return new(big.Float).SetString(text)
}

func (b bounds) allows(text string) bool {
	n, ok := numberOf(text)
	if !ok {
		return true // the check of the type refuses it
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
