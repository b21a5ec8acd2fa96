package wire

import (
	"encoding/base64"
	"encoding/binary"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// EncodeAnswer returns what precedes and follows an answer's payload of n bytes, and the length of all three.
// WritePayload writes the payload between them.
func EncodeAnswer(enc Encoding, framing Framing, out Answer, n int64) (head, tail []byte, length int64) {
	encoded := n
	if enc == Protobuf {
		head, tail = encodeProtobufAnswer(out, n)
	} else {
		head, tail = encodeJSONAnswer(out)
		encoded = (n + 2) / 3 * 4
	}

	head, tail = framing.enclose(enc, head, tail, encoded)
	return head, tail, int64(len(head)) + encoded + int64(len(tail))
}

// enclose adds the frame's own bytes around a message that consists of head, n bytes and tail.
func (f Framing) enclose(enc Encoding, head, tail []byte, n int64) (framedHead, framedTail []byte) {
	length := uint64(len(head)) + uint64(n) + uint64(len(tail))
	switch {
	case f == GRPC:
		return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(length)), head...), tail
	case f == Stream && enc == Protobuf:
		return append(protowire.AppendVarint(nil, length), head...), tail
	case f == Stream:
		return head, append(tail, '\n')
	}
	return head, tail
}

// WritePayload copies a payload of n bytes from r to w, as base64 in JSON.
func WritePayload(w io.Writer, enc Encoding, r io.Reader, n int64) error {
	if enc == Protobuf {
		_, err := io.CopyN(w, r, n)
		return err
	}
	return writeBase64(w, r, n)
}

// writeBase64 encodes n bytes in pieces, so that a large message is never whole in memory.
func writeBase64(w io.Writer, r io.Reader, n int64) error {
	const piece = 24 << 10 // a multiple of 3: only the last piece is padded
	in := make([]byte, min(n, piece))
	buf := make([]byte, base64.StdEncoding.EncodedLen(len(in)))
	for n > 0 {
		in = in[:min(n, piece)]
		if _, err := io.ReadFull(r, in); err != nil {
			return noEOF(err)
		}
		out := buf[:base64.StdEncoding.EncodedLen(len(in))]
		base64.StdEncoding.Encode(out, in)
		if _, err := w.Write(out); err != nil {
			return err
		}
		n -= int64(len(in))
	}
	return nil
}
