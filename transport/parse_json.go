package transport

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

// parseJSONPush reads a push to the end of r. Its payload is decoded as it
// arrives, wherever it stands in the object.
func parseJSONPush(r *bufio.Reader, payload payloadWriter) (topic string, err error) {
	if _, err := jsonByte(r); err == io.ErrUnexpectedEOF {
		return "", errNoPayload
	} else if err == nil {
		_ = r.UnreadByte()
	}
	topic, there, err := jsonPush(r, payload)
	if err == nil && !there {
		err = errNoPayload
	}
	if err == nil {
		err = jsonEnd(r)
	}
	return topic, err
}

var errNoPayload = errors.New("payload is missing")

// parseJSONTopic reads a push to the end of r for its topic alone: whether the
// payload is right is for the node that gets it.
func parseJSONTopic(r *bufio.Reader) (topic string, err error) {
	err = jsonObject(r, func(key string, r *bufio.Reader) error {
		switch {
		case strings.EqualFold(key, "topic"):
			return jsonValue(r, &topic)
		case strings.EqualFold(key, "payload"):
			if quoted(r) {
				_, err := io.Copy(io.Discard, &jsonString{r: r})
				return err
			}
		}
		_, err := jsonRaw(r)
		return err
	})
	if err == nil {
		err = jsonEnd(r)
	}
	return topic, err
}

// jsonPush reads one push object.
func jsonPush(r *bufio.Reader, payload payloadWriter) (topic string, there bool, err error) {
	err = jsonObject(r, func(key string, r *bufio.Reader) error {
		switch {
		case strings.EqualFold(key, "topic"):
			return jsonValue(r, &topic)
		case strings.EqualFold(key, "payload"):
			payload.reset()
			there = true
			if quoted(r) {
				return jsonBytes(r, func(data io.Reader) error {
					_, err := io.Copy(payload, data)
					return err
				})
			}
			var b *[]byte
			if err := jsonValue(r, &b); err != nil {
				return err
			}
			if there = b != nil; there {
				_, err := payload.Write(*b)
				return err
			}
			return nil
		default:
			_, err := jsonRaw(r)
			return err
		}
	})
	return topic, there, err
}

// jsonWrapped reads one wrapped object, and the push inside it.
func jsonWrapped(r *bufio.Reader, payload payloadWriter) (topic string, meta headers, err error) {
	err = jsonObject(r, func(key string, r *bufio.Reader) error {
		switch {
		case strings.EqualFold(key, "metadata"):
			var m map[string]string
			err := jsonValue(r, &m)
			meta = normalized(m)
			return err
		case strings.EqualFold(key, "payload") && quoted(r):
			return jsonBytes(r, func(data io.Reader) error {
				topic, err = parseInner(data, payload)
				return err
			})
		default:
			_, err := jsonRaw(r)
			return err
		}
	})
	return topic, meta, err
}

// parseJSONWrapped reads a wrapped push to the end of r.
func parseJSONWrapped(r *bufio.Reader, payload payloadWriter) (topic string, meta headers, err error) {
	topic, meta, err = jsonWrapped(r, payload)
	if err == nil {
		err = jsonEnd(r)
	}
	return topic, meta, err
}

var errJSON = errors.New("it is not a JSON object")

// jsonObject reads one object. visit must read the value of each key.
func jsonObject(r *bufio.Reader, visit func(key string, r *bufio.Reader) error) error {
	c, err := jsonByte(r)
	if err != nil {
		return err
	}
	if c != '{' {
		return errJSON
	}
	for first := true; ; first = false {
		c, err := jsonByte(r)
		if err != nil {
			return err
		}
		if c == '}' && first {
			return nil
		}
		if c != '"' {
			return errJSON
		}
		_ = r.UnreadByte()
		var key string
		if err := jsonValue(r, &key); err != nil {
			return err
		}
		if c, err = jsonByte(r); err != nil {
			return err
		}
		if c != ':' {
			return errJSON
		}
		if err := visit(key, r); err != nil {
			return fmt.Errorf("%.40q: %w", key, err)
		}
		if c, err = jsonByte(r); err != nil {
			return err
		}
		switch c {
		case '}':
			return nil
		case ',':
		default:
			return errJSON
		}
	}
}

// jsonByte is the next byte that is not white space.
func jsonByte(r *bufio.Reader) (byte, error) {
	for {
		c, err := r.ReadByte()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil || !jsonSpace(c) {
			return c, err
		}
	}
}

func jsonSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// jsonEnd tells whether nothing but white space follows.
func jsonEnd(r *bufio.Reader) error {
	_, err := jsonByte(r)
	switch err {
	case io.ErrUnexpectedEOF:
		return nil
	case nil:
		return errors.New("something follows the JSON object")
	default:
		return err
	}
}

// quoted tells whether the next value is a string.
func quoted(r *bufio.Reader) bool {
	c, err := jsonByte(r)
	if err == nil {
		_ = r.UnreadByte()
	}
	return err == nil && c == '"'
}

// jsonValue reads one short value.
func jsonValue(r *bufio.Reader, v any) error {
	raw, err := jsonRaw(r)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}

// jsonRaw reads the text of one short value and checks its form.
func jsonRaw(r *bufio.Reader) ([]byte, error) {
	var out []byte
	depth, inString, escaped := 0, false, false
	for {
		c, err := r.ReadByte()
		if err != nil {
			return nil, unexpected(err)
		}
		if depth == 0 && !inString && len(out) > 0 && (c == ',' || c == '}' || c == ']' || c == ':' || jsonSpace(c)) {
			// A value that has no end of its own.
			_ = r.UnreadByte()
			break
		}
		if len(out) == 0 && jsonSpace(c) {
			continue
		}
		if len(out) == smallBody {
			return nil, tooLarge(smallBody)
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
				return nil, errJSON
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

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// jsonBytes reads a string of base64 and hands on what it says; use must read all of it.
func jsonBytes(r *bufio.Reader, use func(data io.Reader) error) error {
	s := &jsonString{r: r}
	if err := use(base64.NewDecoder(base64.StdEncoding, s)); err != nil {
		return err
	}
	if rest, err := io.ReadAll(io.LimitReader(s, 16)); err != nil {
		return err
	} else if len(bytes.Trim(rest, "\r\n")) > 0 {
		return errors.New("payload: base64 goes on after its end")
	}
	return nil
}

// jsonString reads the content of a string that is base64: plain ASCII.
type jsonString struct {
	r     *bufio.Reader
	begun bool
	ended bool
}

func (s *jsonString) Read(p []byte) (int, error) {
	if !s.begun {
		if _, err := jsonByte(s.r); err != nil { // the quote
			return 0, err
		}
		s.begun = true
	}
	n := 0
	for n < len(p) && !s.ended {
		if n > 0 && s.r.Buffered() == 0 {
			break
		}
		if k := s.plain(p[n:]); k > 0 {
			n += k
			continue
		}
		c, err := s.r.ReadByte()
		if err != nil {
			return n, unexpected(err)
		}
		switch {
		case c == '"':
			s.ended = true
			continue
		case c == '\\':
			if c, err = s.escape(); err != nil {
				return n, err
			}
		case c < ' ':
			return n, errors.New("a JSON string holds a control character")
		}
		p[n] = c
		n++
	}
	if n == 0 && s.ended {
		return 0, io.EOF
	}
	return n, nil
}

// plain copies what is buffered of the alphabet of base64.
func (s *jsonString) plain(p []byte) int {
	b, _ := s.r.Peek(min(s.r.Buffered(), len(p)))
	n := 0
	for n < len(b) && b[n] != '"' && b[n] != '\\' && b[n] >= ' ' {
		n++
	}
	copy(p, b[:n])
	_, _ = s.r.Discard(n)
	return n
}

func (s *jsonString) escape() (byte, error) {
	c, err := s.r.ReadByte()
	if err != nil {
		return 0, unexpected(err)
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
			return 0, unexpected(err)
		}
		if v, err := strconv.ParseUint(string(hex[:]), 16, 16); err == nil && v < 0x80 {
			return byte(v), nil
		}
	}
	return 0, errors.New("payload is not base64")
}
