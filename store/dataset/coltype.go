package dataset

import "strconv"

// colType is the narrowest type of all values of a column so far. It only grows.
type colType uint8

const (
	typeUnknown colType = iota
	typeInt
	typeFloat
	typeString
)

// String returns the type's name in column_info.
func (c colType) String() string {
	switch c {
	case typeInt:
		return "int64"
	case typeFloat:
		return "float64"
	}
	return "string"
}

// with returns the type of a column that also has the value v, which is not empty.
func (c colType) with(v string) colType { return max(c, typeOf(v)) }

func typeOf(v string) colType {
	rest := v
	if rest[0] == '-' || rest[0] == '+' {
		rest = rest[1:]
	}
	digits := leadingDigits(rest)
	if digits > 1 && rest[0] == '0' {
		return typeString
	}
	if digits == len(rest) && digits > 0 {
		if v[0] == '+' {
			return typeString
		}
		if digits <= 18 {
			return typeInt
		}
		if _, err := strconv.ParseInt(v, 10, 64); err != nil {
			return typeString
		}
		return typeInt
	}
	if v == "NaN" || v == "nan" {
		return typeFloat
	}
	rest = rest[digits:]
	if rest != "" && rest[0] == '.' {
		n := leadingDigits(rest[1:])
		digits += n
		rest = rest[1+n:]
	}
	switch {
	case digits == 0:
		return typeString
	case rest == "":
		return typeFloat
	case rest[0] != 'e' && rest[0] != 'E':
		return typeString
	}
	// The rest must be an exponent, and the number in range.
	if exp := rest[1:]; exp == "" || leadingDigits(trimSign(exp)) != len(trimSign(exp)) {
		return typeString
	}
	if _, err := strconv.ParseFloat(v, 64); err != nil {
		return typeString
	}
	return typeFloat
}

func trimSign(s string) string {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		return s[1:]
	}
	return s
}

func leadingDigits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
