package zipfile

import "fmt"

// CheckJSON refuses JSON text with more values than most. A value of a byte or two, such as {}, can take
// hundreds of bytes once it is decoded, and many of them take next to nothing in an archive. Check text of an
// archive before it is decoded. It does not check that the text is JSON: the decoder does.
func CheckJSON(text []byte, most int) error {
	values, quoted := 1, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == '{' || c == '['):
			values++
		}
		if values > most {
			return fmt.Errorf("has more than %d values", most)
		}
	}
	return nil
}
