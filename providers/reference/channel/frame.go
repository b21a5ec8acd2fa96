package channel

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// ChunkSize is the maximum payload of one push.
const ChunkSize = 1 << 20

// A chunk consists of the version (1 byte), flags (1 byte), the sender's instance id (8 bytes), its number in
// the topic (8 bytes, big endian), and data.
const (
	chunkVersion = 1
	chunkHeader  = 18
	flagLast     = 1 // the message ends with this chunk
)

// maxMessage limits the memory that a partner can make this program use: 4 GiB.
const maxMessage = 4 << 30

// maxAhead limits how many chunks may arrive before a missing one.
const maxAhead = 1024

// instance identifies one process of a program. A restarted program has another one, because it has lost what
// the first process sent and received.
type instance [8]byte

func newInstance() (r instance) {
	_, _ = rand.Read(r[:]) // crypto/rand's Read never fails
	return r
}

func encodeChunk(r instance, number uint64, last bool, data []byte) []byte {
	out := make([]byte, chunkHeader, chunkHeader+len(data))
	out[0] = chunkVersion
	if last {
		out[1] = flagLast
	}
	copy(out[2:], r[:])
	binary.BigEndian.PutUint64(out[10:], number)
	return append(out, data...)
}

type chunk struct {
	last bool
	data []byte
}

func decodeChunk(b []byte) (from instance, number uint64, c chunk, err error) {
	if len(b) < chunkHeader || b[0] != chunkVersion {
		return from, 0, c, errors.New("unknown message format; the partner may run another version")
	}
	c = chunk{last: b[1]&flagLast != 0, data: b[chunkHeader:]}
	return instance(b[2:10]), binary.BigEndian.Uint64(b[10:]), c, nil
}

// assembler orders the chunks of one topic and joins them to messages.
type assembler struct {
	from  *instance // sender of the first chunk; shared by all topics of a link
	next  uint64
	ahead map[uint64]chunk
	part  []byte
	ready [][]byte
}

// add adds one chunk. It drops duplicates.
func (a *assembler) add(b []byte) error {
	r, n, c, err := decodeChunk(b)
	if err != nil {
		return err
	}
	if *a.from == (instance{}) {
		*a.from = r
	}
	if *a.from != r {
		return errors.New(
			"it comes from another process: the partner restarted; run the task again under a new id",
		)
	}
	if n < a.next {
		return nil
	}
	if n-a.next > maxAhead {
		return fmt.Errorf("chunk %d arrived while chunk %d is missing", n, a.next)
	}
	if a.ahead == nil {
		a.ahead = map[uint64]chunk{}
	}
	a.ahead[n] = c
	for {
		c, ok := a.ahead[a.next]
		if !ok {
			return nil
		}
		delete(a.ahead, a.next)
		a.next++
		if len(a.part)+len(c.data) > maxMessage {
			return fmt.Errorf("a message exceeds %d bytes", maxMessage)
		}
		a.part = append(a.part, c.data...)
		if c.last {
			a.ready = append(a.ready, a.part)
			a.part = nil
		}
	}
}

// take returns the next complete message, if any.
func (a *assembler) take() ([]byte, bool) {
	if len(a.ready) == 0 {
		return nil, false
	}
	m := a.ready[0]
	a.ready = a.ready[1:]
	return m, true
}

// encodeMessage joins the length of the head (4 bytes, big endian), the head as JSON, and the body.
func encodeMessage(head any, body []byte) ([]byte, error) {
	h, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 4, 4+len(h)+len(body))
	binary.BigEndian.PutUint32(out, uint32(len(h)))
	out = append(out, h...)
	return append(out, body...), nil
}

func decodeMessage(m []byte, head any) (body []byte, err error) {
	if len(m) < 4 {
		return nil, errors.New("the message has no head")
	}
	n := uint64(binary.BigEndian.Uint32(m))
	if n > uint64(len(m)-4) {
		return nil, errors.New("the message ends inside its head")
	}
	if err := json.Unmarshal(m[4:4+n], head); err != nil {
		return nil, fmt.Errorf("the message has an unexpected head: %w", err)
	}
	return m[4+n:], nil
}
