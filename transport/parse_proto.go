package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// payloadWriter takes a push's payload as it is read. A payload may come more
// than once; then the last one counts.
type payloadWriter interface {
	io.Writer
	reset()
}

// nowhere is a payloadWriter for those who want only the topic.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) reset()                      {}

// pieces is the size of the buffers through which bodies are read.
const pieces = 32 << 10

var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, pieces) }}

// buffered lends a buffered reader to read.
func buffered(r io.Reader, read func(*bufio.Reader) error) error {
	br := buffers.Get().(*bufio.Reader)
	br.Reset(r)
	defer func() {
		br.Reset(nil)
		buffers.Put(br)
	}()
	return read(br)
}

var errGroup = errors.New("groups are not of this protocol")

// protoFields walks the fields of one protobuf message as it arrives, to its end.
// visit gets fields of bytes and must read all of them; other fields are skipped.
func protoFields(r *bufio.Reader, visit func(num protowire.Number, size int64, value *bufio.Reader) error) error {
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
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("field %d: %w", num, err)
		}
	}
}

// shortField reads a field that is not a payload.
func shortField(r io.Reader, size int64) ([]byte, error) {
	if size > smallBody {
		return nil, tooLarge(smallBody)
	}
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	return b, err
}

func skipField(r io.Reader, size int64) error {
	_, err := io.CopyN(io.Discard, r, size)
	return err
}

// parseProtoPush reads a PushInbound to its end.
func parseProtoPush(r *bufio.Reader, payload payloadWriter) (topic string, err error) {
	err = protoFields(r, func(num protowire.Number, size int64, value *bufio.Reader) error {
		switch num {
		case 1:
			b, err := shortField(value, size)
			if err == nil {
				topic, err = text(b)
			}
			return err
		case 2:
			payload.reset()
			_, err := io.CopyN(payload, value, size)
			return err
		default:
			return skipField(value, size)
		}
	})
	return topic, err
}

// parseProtoWrapped reads an Inbound to its end, and the push inside it.
func parseProtoWrapped(r *bufio.Reader, payload payloadWriter) (topic string, meta headers, err error) {
	meta = make(headers)
	left := int64(smallBody) // for all metadata
	err = protoFields(r, func(num protowire.Number, size int64, value *bufio.Reader) error {
		switch num {
		case 1:
			if left -= size; left < 0 {
				return tooLarge(smallBody)
			}
			b, err := shortField(value, size)
			if err != nil {
				return err
			}
			k, v, err := mapEntry(b)
			if err == nil {
				meta.add(k, v)
			}
			return err
		case 2:
			topic, err = parseInner(io.LimitReader(value, size), payload)
			return err
		default:
			return skipField(value, size)
		}
	})
	return topic, meta, err
}

// parseInner reads the push inside a wrapped body, which must be all of r.
func parseInner(r io.Reader, payload payloadWriter) (topic string, err error) {
	payload.reset()
	err = buffered(r, func(br *bufio.Reader) (err error) {
		first, _ := br.Peek(1)
		if innerEncoding(first) == inJSON {
			topic, err = parseJSONPush(br, payload)
		} else {
			topic, err = parseProtoPush(br, payload)
		}
		return err
	})
	return strings.Clone(topic), err
}
