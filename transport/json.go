package transport

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// millis is a duration that senders write as a number or as a numeric string.
type millis int64

func (m *millis) UnmarshalJSON(b []byte) error {
	s := string(b)
	if s == "null" {
		return nil
	}
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	v, err := parseMillis(s)
	*m = millis(v)
	return err
}

// parseMillis reads whole milliseconds; "" is 0. What is beyond an int64 is the largest.
func parseMillis(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(f) {
		return 0, fmt.Errorf("timeout %.20q is not a number of milliseconds", s)
	}
	return int64(min(max(f, -1), math.MaxInt32*1000)), nil
}

// unmarshal takes an empty body for an empty object: every field of a pop has a default.
func unmarshal(b []byte, v any) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	return json.Unmarshal(b, v)
}

func decodeJSONRead(b []byte) (inbound, error) {
	var v struct {
		Topic   string `json:"topic"`
		Timeout millis `json:"timeout"`
	}
	err := unmarshal(b, &v)
	return inbound{topic: v.Topic, timeoutMS: int64(v.Timeout)}, err
}

// decodeJSONAnswer reads a partner's answer to a push.
func decodeJSONAnswer(b []byte) (outbound, error) {
	var v struct {
		Code    Code    `json:"code"`
		Message string  `json:"message"`
		Content *[]byte `json:"content"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return outbound{}, err
	}
	out := outbound{code: v.Code, message: v.Message}
	if v.Content != nil {
		out.payload, out.hasPayload = *v.Content, true
	}
	return out, nil
}

// encodeJSONAnswer gives the parts of an answer around the content, which is
// written between them in base64. `content` is absent when there is no message,
// and "" when the message is empty.
func encodeJSONAnswer(out outbound) (head, tail []byte) {
	// Two strings can't fail to marshal.
	code, _ := json.Marshal(string(out.code))
	message, _ := json.Marshal(out.message)
	head = fmt.Appendf(nil, `{"code":%s,"message":%s`, code, message)
	if out.hasPayload {
		return append(head, `,"content":"`...), []byte(`"}`)
	}
	return head, []byte("}")
}
