package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"hutong/transport/status"
)

// milliseconds is a duration that senders write as a number or as a numeric string.
type milliseconds int64

func (m *milliseconds) UnmarshalJSON(b []byte) error {
	s := string(b)
	if s == "null" {
		return nil
	}
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}

	v, err := ParseMilliseconds(s)
	*m = milliseconds(v)
	return err
}

// ParseMilliseconds parses whole milliseconds. An empty string is 0; a value out of range becomes the nearest
// limit.
func ParseMilliseconds(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(f) {
		return 0, fmt.Errorf("timeout %.20q is not a number of milliseconds", s)
	}
	return int64(min(max(f, -1), math.MaxInt32*1000)), nil
}

func decodeJSONRead(b []byte) (ReadRequest, error) {
	var v struct {
		Topic   string       `json:"topic"`
		Timeout milliseconds `json:"timeout"`
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return ReadRequest{}, nil // every field has a default
	}
	err := json.Unmarshal(b, &v)
	return ReadRequest{Topic: v.Topic, TimeoutMS: int64(v.Timeout)}, err
}

func decodeJSONAnswer(b []byte) (Answer, error) {
	var v struct {
		Code    status.Code `json:"code"`
		Message string      `json:"message"`
		Content *[]byte     `json:"content"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return Answer{}, err
	}

	out := Answer{Code: v.Code, Message: v.Message}
	if v.Content != nil {
		out.Payload, out.HasPayload = *v.Content, true
	}
	return out, nil
}

// encodeJSONAnswer returns the parts of an answer before and after its content, which the caller writes
// between them in base64. The field `content` is absent if there is no message, and "" if the message is
// empty.
func encodeJSONAnswer(out Answer) (head, tail []byte) {
	// Strings never fail to marshal.
	code, _ := json.Marshal(string(out.Code))
	message, _ := json.Marshal(out.Message)
	head = fmt.Appendf(nil, `{"code":%s,"message":%s`, code, message)
	if out.HasPayload {
		return append(head, `,"content":"`...), []byte(`"}`)
	}
	return head, []byte("}")
}
