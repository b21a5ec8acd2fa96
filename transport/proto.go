package transport

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of API_SPECS part 4, 5.1 and 5.2.2. Byte fields that were decoded
// from protobuf share the memory of the body.

// inbound is a PopInbound, PeekInbound or ReleaseInbound.
type inbound struct {
	topic     string
	timeoutMS int64 // 0 is "not given"
}

// outbound is TransportOutbound, and Outbound, which has the same fields.
type outbound struct {
	code    Code
	message string
	payload []byte
	// hasPayload tells an empty message from none, where the encoding can.
	hasPayload bool
}

var errUTF8 = errors.New("text is not UTF-8")

// fields walks the fields of one protobuf message. Unknown ones are skipped by
// visitors that ignore them.
func fields(b []byte, visit func(num protowire.Number, typ protowire.Type, value []byte, varint uint64) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("field tag: %w", protowire.ParseError(n))
		}
		b = b[n:]
		var value []byte
		var varint uint64
		switch typ {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			varint, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return fmt.Errorf("field %d: %w", num, protowire.ParseError(n))
		}
		b = b[n:]
		if err := visit(num, typ, value, varint); err != nil {
			return fmt.Errorf("field %d: %w", num, err)
		}
	}
	return nil
}

func text(value []byte) (string, error) {
	if !utf8.Valid(value) {
		return "", errUTF8
	}
	return string(value), nil
}

// decodeProtoRead reads a PopInbound, PeekInbound or ReleaseInbound.
func decodeProtoRead(b []byte) (in inbound, err error) {
	err = fields(b, func(num protowire.Number, typ protowire.Type, value []byte, varint uint64) (err error) {
		switch {
		case num == 1 && typ == protowire.BytesType:
			in.topic, err = text(value)
		case num == 2 && typ == protowire.VarintType:
			in.timeoutMS = int64(int32(varint))
		}
		return err
	})
	return in, err
}

func mapEntry(b []byte) (k, v string, err error) {
	err = fields(b, func(num protowire.Number, typ protowire.Type, value []byte, _ uint64) (err error) {
		switch {
		case num == 1 && typ == protowire.BytesType:
			k, err = text(value)
		case num == 2 && typ == protowire.BytesType:
			v, err = text(value)
		}
		return err
	})
	return k, v, err
}

// decodeProtoAnswer reads a TransportOutbound or Outbound.
func decodeProtoAnswer(b []byte) (out outbound, err error) {
	err = fields(b, func(num protowire.Number, typ protowire.Type, value []byte, _ uint64) (err error) {
		if typ != protowire.BytesType {
			return nil
		}
		var s string
		switch num {
		case 2:
			out.payload, out.hasPayload = value, true
		case 3:
			s, err = text(value)
			out.code = Code(s)
		case 4:
			out.message, err = text(value)
		}
		return err
	})
	return out, err
}

// encodeProtoAnswer gives the parts of a TransportOutbound around a payload of n
// bytes, which is written as it is, between them.
func encodeProtoAnswer(out outbound, n int64) (head, tail []byte) {
	if n > 0 {
		head = protowire.AppendTag(head, 2, protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(n))
	}
	tail = protowire.AppendTag(tail, 3, protowire.BytesType)
	tail = protowire.AppendString(tail, string(out.code))
	tail = protowire.AppendTag(tail, 4, protowire.BytesType)
	tail = protowire.AppendString(tail, out.message)
	return head, tail
}
