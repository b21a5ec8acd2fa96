package wire

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

var (
	errNoPayload = errors.New("payload is missing")
	errNotObject = errors.New("it is not a JSON object")
)

// parseJSONPush reads a push to the end of r. It decodes the payload as it arrives, wherever the object has
// it.
func parseJSONPush(r *bufio.Reader, payload PayloadWriter) (topic string, err error) {
	if _, err := nextByte(r); err == io.ErrUnexpectedEOF {
		return "", errNoPayload
	} else if err == nil {
		_ = r.UnreadByte()
	}

	topic, hasPayload, err := readJSONPush(r, payload)
	if err == nil && !hasPayload {
		err = errNoPayload
	}
	if err == nil {
		err = expectEnd(r)
	}
	return topic, err
}

// parseJSONTopic reads a push to the end of r and returns its topic only. The node that receives the push
// checks the payload.
func parseJSONTopic(r *bufio.Reader) (topic string, err error) {
	err = readObject(r, func(key string, r *bufio.Reader) error {
		switch {
		case strings.EqualFold(key, "topic"):
			return readValue(r, &topic)
		case strings.EqualFold(key, "payload"):
			if nextIsString(r) {
				_, err := io.Copy(io.Discard, &base64String{r: r})
				return err
			}
		}
		_, err := readRaw(r)
		return err
	})
	if err == nil {
		err = expectEnd(r)
	}
	return topic, err
}

// readJSONPush reads one push object.
func readJSONPush(r *bufio.Reader, payload PayloadWriter) (topic string, hasPayload bool, err error) {
	err = readObject(r, func(key string, r *bufio.Reader) error {
		switch {
		case strings.EqualFold(key, "topic"):
			return readValue(r, &topic)
		case strings.EqualFold(key, "payload"):
			payload.Reset()
			hasPayload, err = readJSONPayload(r, payload)
			return err
		default:
			_, err := readRaw(r)
			return err
		}
	})
	return topic, hasPayload, err
}

// readJSONPayload reads the value of a payload: a string of base64, or a short array of numbers. It returns
// false for null.
func readJSONPayload(r *bufio.Reader, payload PayloadWriter) (hasPayload bool, err error) {
	if nextIsString(r) {
		return true, readBase64(r, func(data io.Reader) error {
			_, err := io.Copy(payload, data)
			return err
		})
	}

	var b *[]byte
	if err := readValue(r, &b); err != nil || b == nil {
		return false, err
	}
	_, err = payload.Write(*b)
	return true, err
}

// readJSONWrapped reads one wrapped object, and the push inside it.
func readJSONWrapped(r *bufio.Reader, payload PayloadWriter) (topic string, metadata Headers, err error) {
	err = readObject(r, func(key string, r *bufio.Reader) error {
		switch {
		case strings.EqualFold(key, "metadata"):
			var m map[string]string
			err := readValue(r, &m)
			metadata = headersFromMetadata(m)
			return err
		case strings.EqualFold(key, "payload") && nextIsString(r):
			return readBase64(r, func(data io.Reader) error {
				topic, err = parseInner(data, payload)
				return err
			})
		default:
			_, err := readRaw(r)
			return err
		}
	})
	return topic, metadata, err
}

// parseJSONWrapped reads a wrapped push to the end of r.
func parseJSONWrapped(r *bufio.Reader, payload PayloadWriter) (topic string, metadata Headers, err error) {
	topic, metadata, err = readJSONWrapped(r, payload)
	if err == nil {
		err = expectEnd(r)
	}
	return topic, metadata, err
}

// readObject reads one object. visit must read the value of each key.
func readObject(r *bufio.Reader, visit func(key string, r *bufio.Reader) error) error {
	c, err := nextByte(r)
	if err != nil {
		return err
	}
	if c != '{' {
		return errNotObject
	}

	for first := true; ; first = false {
		c, err := nextByte(r)
		if err != nil {
			return err
		}
		if c == '}' && first {
			return nil
		}
		if c != '"' {
			return errNotObject
		}
		_ = r.UnreadByte()

		if err := readMember(r, visit); err != nil {
			return err
		}

		if c, err = nextByte(r); err != nil {
			return err
		}
		switch c {
		case '}':
			return nil
		case ',':
		default:
			return errNotObject
		}
	}
}

// readMember reads one key of an object and has visit read its value.
func readMember(r *bufio.Reader, visit func(key string, r *bufio.Reader) error) error {
	var key string
	if err := readValue(r, &key); err != nil {
		return err
	}

	c, err := nextByte(r)
	if err != nil {
		return err
	}
	if c != ':' {
		return errNotObject
	}

	if err := visit(key, r); err != nil {
		return fmt.Errorf("%.40q: %w", key, err)
	}
	return nil
}

// nextByte reads the next byte that is not white space. The end of r is io.ErrUnexpectedEOF.
func nextByte(r *bufio.Reader) (byte, error) {
	for {
		c, err := r.ReadByte()
		if err != nil || !isSpace(c) {
			return c, noEOF(err)
		}
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// expectEnd returns an error if anything but white space follows.
func expectEnd(r *bufio.Reader) error {
	_, err := nextByte(r)
	switch err {
	case io.ErrUnexpectedEOF:
		return nil
	case nil:
		return errors.New("something follows the JSON object")
	default:
		return err
	}
}

// nextIsString reports whether the next value is a string.
func nextIsString(r *bufio.Reader) bool {
	c, err := nextByte(r)
	if err == nil {
		_ = r.UnreadByte()
	}
	return err == nil && c == '"'
}

// readValue decodes one short value into v.
func readValue(r *bufio.Reader, v any) error {
	raw, err := readRaw(r)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}

// readRaw reads the text of one short value and checks its syntax.
func readRaw(r *bufio.Reader) ([]byte, error) {
	var out []byte
	depth, inString, escaped := 0, false, false
	for {
		c, err := r.ReadByte()
		if err != nil {
			return nil, noEOF(err)
		}
		if depth == 0 && !inString && len(out) > 0 && endsScalar(c) {
			// Numbers and literals have no end mark of their own.
			_ = r.UnreadByte()
			break
		}
		if len(out) == 0 && isSpace(c) {
			continue
		}
		if len(out) == MaxParameters {
			return nil, TooLarge(MaxParameters)
		}

		out = append(out, c)
		switch {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth < 0 {
				return nil, errNotObject
			}
		}
		if depth == 0 && !inString && (c == '"' || c == '}' || c == ']') {
			break
		}
	}

	if !json.Valid(out) {
		return nil, errors.New("it is not JSON")
	}
	return out, nil
}

// endsScalar reports whether c ends a number or a literal.
func endsScalar(c byte) bool { return c == ',' || c == '}' || c == ']' || c == ':' || isSpace(c) }

// noEOF turns the end of input inside a value into an error of its own.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readBase64 reads a string of base64 and passes the decoded bytes to use, which must read all of them.
func readBase64(r *bufio.Reader, use func(data io.Reader) error) error {
	s := &base64String{r: r}
	if err := use(base64.NewDecoder(base64.StdEncoding, s)); err != nil {
		return err
	}

	if rest, err := io.ReadAll(io.LimitReader(s, 16)); err != nil {
		return err
	} else if len(bytes.Trim(rest, "\r\n")) > 0 {
		return errors.New("payload: data follows the end of the base64")
	}
	return nil
}

// base64String reads the content of a JSON string that holds base64, which is plain ASCII.
type base64String struct {
	r      *bufio.Reader
	opened bool
	closed bool
}

func (s *base64String) Read(p []byte) (int, error) {
	if !s.opened {
		if _, err := nextByte(s.r); err != nil { // the quote
			return 0, err
		}
		s.opened = true
	}

	n := 0
	for n < len(p) && !s.closed {
		if n > 0 && s.r.Buffered() == 0 {
			break
		}
		if k := s.copyPlain(p[n:]); k > 0 {
			n += k
			continue
		}

		c, err := s.r.ReadByte()
		if err != nil {
			return n, noEOF(err)
		}
		switch {
		case c == '"':
			s.closed = true
			continue
		case c == '\\':
			if c, err = s.readEscape(); err != nil {
				return n, err
			}
		case c < ' ':
			return n, errors.New("a JSON string holds a control character")
		}
		p[n] = c
		n++
	}

	if n == 0 && s.closed {
		return 0, io.EOF
	}
	return n, nil
}

// copyPlain copies buffered characters up to the next quote, escape or control character.
func (s *base64String) copyPlain(p []byte) int {
	b, _ := s.r.Peek(min(s.r.Buffered(), len(p)))
	n := 0
	for n < len(b) && b[n] != '"' && b[n] != '\\' && b[n] >= ' ' {
		n++
	}
	copy(p, b[:n])
	_, _ = s.r.Discard(n)
	return n
}

// readEscape reads what follows a backslash. Only ASCII can be part of base64.
func (s *base64String) readEscape() (byte, error) {
	c, err := s.r.ReadByte()
	if err != nil {
		return 0, noEOF(err)
	}
	switch c {
	case '/', '\\', '"':
		return c, nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 'u':
		var hex [4]byte
		if _, err := io.ReadFull(s.r, hex[:]); err != nil {
			return 0, noEOF(err)
		}
		if v, err := strconv.ParseUint(string(hex[:]), 16, 16); err == nil && v < 0x80 {
			return byte(v), nil
		}
	}
	return 0, errors.New("payload is not base64")
}
