package wire

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"hutong/transport/status"
)

// ReadRequest is a PopInbound, PeekInbound or ReleaseInbound (API_SPECS part 4, 5.1).
type ReadRequest struct {
	Topic string
	// TimeoutMS is the longest wait in milliseconds; 0 leaves it to the transport.
	TimeoutMS int64
}

// Answer is a TransportOutbound (API_SPECS part 4, 5.1), or an Outbound (5.2.2), which has the same fields. A
// Payload that was decoded from protobuf shares the memory of the body.
type Answer struct {
	Code    status.Code
	Message string
	Payload []byte
	// HasPayload distinguishes an empty message from none, where the encoding can.
	HasPayload bool
}

var errUTF8 = errors.New("text is not UTF-8")

// protobufField is one decoded field. The type selects whether bytes or varint holds the value.
type protobufField struct {
	num    protowire.Number
	typ    protowire.Type
	bytes  []byte
	varint uint64
}

// visitFields calls visit for each field of a protobuf message in memory. Visitors ignore unknown fields.
func visitFields(b []byte, visit func(f protobufField) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("field tag: %w", protowire.ParseError(n))
		}
		b = b[n:]

		f := protobufField{num: num, typ: typ}
		switch typ {
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			f.varint, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return fmt.Errorf("field %d: %w", num, protowire.ParseError(n))
		}
		b = b[n:]

		if err := visit(f); err != nil {
			return fmt.Errorf("field %d: %w", num, err)
		}
	}
	return nil
}

// decodeText checks that a field's bytes are UTF-8.
func decodeText(value []byte) (string, error) {
	if !utf8.Valid(value) {
		return "", errUTF8
	}
	return string(value), nil
}

func decodeProtobufRead(b []byte) (in ReadRequest, err error) {
	err = visitFields(b, func(f protobufField) (err error) {
		switch {
		case f.num == 1 && f.typ == protowire.BytesType:
			in.Topic, err = decodeText(f.bytes)
		case f.num == 2 && f.typ == protowire.VarintType:
			in.TimeoutMS = int64(int32(f.varint))
		}
		return err
	})
	return in, err
}

// decodeMapEntry decodes one entry of a map<string, string>.
func decodeMapEntry(b []byte) (k, v string, err error) {
	err = visitFields(b, func(f protobufField) (err error) {
		switch {
		case f.num == 1 && f.typ == protowire.BytesType:
			k, err = decodeText(f.bytes)
		case f.num == 2 && f.typ == protowire.BytesType:
			v, err = decodeText(f.bytes)
		}
		return err
	})
	return k, v, err
}

func decodeProtobufAnswer(b []byte) (out Answer, err error) {
	err = visitFields(b, func(f protobufField) (err error) {
		if f.typ != protowire.BytesType {
			return nil
		}
		var s string
		switch f.num {
		case 2:
			out.Payload, out.HasPayload = f.bytes, true
		case 3:
			s, err = decodeText(f.bytes)
			out.Code = status.Code(s)
		case 4:
			out.Message, err = decodeText(f.bytes)
		}
		return err
	})
	return out, err
}

// encodeProtobufAnswer returns the parts of an answer before and after a payload of n bytes, which the caller
// writes between them as it is.
func encodeProtobufAnswer(out Answer, n int64) (head, tail []byte) {
	if n > 0 {
		head = protowire.AppendTag(head, 2, protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(n))
	}
	tail = protowire.AppendTag(tail, 3, protowire.BytesType)
	tail = protowire.AppendString(tail, string(out.Code))
	tail = protowire.AppendTag(tail, 4, protowire.BytesType)
	tail = protowire.AppendString(tail, out.Message)
	return head, tail
}
