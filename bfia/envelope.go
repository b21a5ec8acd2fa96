package bfia

import "encoding/json"

// Envelope is the answer of every endpoint. It holds the messages of both dialects: /v1 has msg (part 2,
// 2.3), /v2 and FATE-Flow's errors have message. Hutong writes the one that belongs to the path and reads
// both.
type Envelope struct {
	Code    Code            `json:"code"`
	Msg     string          `json:"msg,omitempty"`
	Message string          `json:"message,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// Text returns the message of either field.
func (e Envelope) Text() string {
	if e.Msg != "" {
		return e.Msg
	}
	return e.Message
}

// OK reports success: code 0 in the specification, 200 from Kuscia.
func (e Envelope) OK() bool { return e.Code == 0 || e.Code == 200 }
