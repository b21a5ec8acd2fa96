package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

var errGroup = errors.New("groups are not part of this protocol")

// streamFields reads one protobuf message to the end of r, field by field. visit gets fields of bytes and
// must read all of each; other fields are skipped.
func streamFields(r *bufio.Reader, visit func(num protowire.Number, size int64, value *bufio.Reader) error,
) error {
	for {
		tag, err := binary.ReadUvarint(r)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("field tag: %w", err)
		}
		num, typ := protowire.DecodeTag(tag)
		if num < protowire.MinValidNumber {
			return errors.New("field tag: invalid field number")
		}

		switch typ {
		case protowire.VarintType:
			_, err = binary.ReadUvarint(r)
		case protowire.Fixed32Type:
			_, err = r.Discard(4)
		case protowire.Fixed64Type:
			_, err = r.Discard(8)
		case protowire.BytesType:
			var size uint64
			if size, err = binary.ReadUvarint(r); err == nil && size > 1<<40 {
				err = errors.New("it claims an impossible length")
			}
			if err == nil {
				err = visit(num, int64(size), r)
			}
		default:
			err = errGroup
		}
		if err != nil {
			return fmt.Errorf("field %d: %w", num, noEOF(err))
		}
	}
}

// readShortField reads a field that is not a payload into memory.
func readShortField(r io.Reader, size int64) ([]byte, error) {
	if size > MaxParameters {
		return nil, TooLarge(MaxParameters)
	}
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	return b, err
}

func skipField(r io.Reader, size int64) error {
	_, err := io.CopyN(io.Discard, r, size)
	return err
}

// parseProtobufPush reads a PushInbound to the end of r.
func parseProtobufPush(r *bufio.Reader, payload PayloadWriter) (topic string, err error) {
	err = streamFields(r, func(num protowire.Number, size int64, value *bufio.Reader) error {
		switch num {
		case 1:
			b, err := readShortField(value, size)
			if err == nil {
				topic, err = decodeText(b)
			}
			return err
		case 2:
			payload.Reset()
			_, err := io.CopyN(payload, value, size)
			return err
		default:
			return skipField(value, size)
		}
	})
	return topic, err
}

// parseProtobufWrapped reads an Inbound to the end of r, and the push inside it.
func parseProtobufWrapped(r *bufio.Reader, payload PayloadWriter,
) (topic string, metadata Headers, err error) {
	metadata = make(Headers)
	left := int64(MaxParameters) // for all metadata together
	err = streamFields(r, func(num protowire.Number, size int64, value *bufio.Reader) error {
		switch num {
		case 1:
			if left -= size; left < 0 {
				return TooLarge(MaxParameters)
			}
			b, err := readShortField(value, size)
			if err != nil {
				return err
			}
			k, v, err := decodeMapEntry(b)
			if err == nil {
				metadata.Add(k, v)
			}
			return err
		case 2:
			topic, err = parseInner(io.LimitReader(value, size), payload)
			return err
		default:
			return skipField(value, size)
		}
	})
	return topic, metadata, err
}

// parseInner reads the push inside a wrapped body. The push must be all of r.
func parseInner(r io.Reader, payload PayloadWriter) (topic string, err error) {
	payload.Reset()
	err = Buffered(r, func(br *bufio.Reader) (err error) {
		first, _ := br.Peek(1)
		if innerEncoding(first) == JSON {
			topic, err = parseJSONPush(br, payload)
		} else {
			topic, err = parseProtobufPush(br, payload)
		}
		return err
	})
	return strings.Clone(topic), err
}

// EncodeProtobufPush returns what precedes a payload of n bytes in the body of a push.
func EncodeProtobufPush(topic string, n int64) (head []byte) {
	head = protowire.AppendTag(head, 1, protowire.BytesType)
	head = protowire.AppendString(head, topic)
	head = protowire.AppendTag(head, 2, protowire.BytesType)
	return protowire.AppendVarint(head, uint64(n))
}
