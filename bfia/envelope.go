package bfia

import "encoding/json"

// Envelope is the answer of every endpoint, in both dialects at once: /v1 says msg (part 2, 2.3), /v2 and FATE-Flow's
// errors say message. Hutong writes the one that the path asks for and reads both.
type Envelope struct {
	Code    Code            `json:"code"`
	Msg     string          `json:"msg,omitempty"`
	Message string          `json:"message,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// Text is the message, whichever field it came in.
func (e Envelope) Text() string {
	if e.Msg != "" {
		return e.Msg
	}
	return e.Message
}

// OK tells success: 0 by the specification, 200 from Kuscia.
func (e Envelope) OK() bool { return e.Code == 0 || e.Code == 200 }
