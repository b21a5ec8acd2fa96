package channel

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// ChunkSize is the most payload that one push carries.
const ChunkSize = 1 << 20

// A chunk is: version (1 byte), flags (1 byte), the sender's run (8 bytes), number in its topic (8 bytes, big endian), data.
const (
	chunkVersion = 1
	chunkHeader  = 18
	flagLast     = 1 // the message ends with this chunk
)

// maxMessage bounds what a partner can make us hold: 4 GiB.
const maxMessage = 4 << 30

// maxAhead bounds how many chunks may come before one that is missing.
const maxAhead = 1024

// instance tells one life of a program from the next, which knows nothing of what the first one sent.
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

func decodeChunk(b []byte) (instance, uint64, chunk, error) {
	if len(b) < chunkHeader || b[0] != chunkVersion {
		return instance{}, 0, chunk{}, errors.New("a message that this version does not understand")
	}
	return instance(b[2:10]), binary.BigEndian.Uint64(b[10:]), chunk{last: b[1]&flagLast != 0, data: b[chunkHeader:]}, nil
}

// assembler puts the chunks of one topic in order and together.
type assembler struct {
	from  *instance // of the first chunk; shared by the topics of a link
	next  uint64
	ahead map[uint64]chunk
	part  []byte
	ready [][]byte
}

// add takes one chunk. A chunk that was there before is dropped.
func (a *assembler) add(b []byte) error {
	r, n, c, err := decodeChunk(b)
	if err != nil {
		return err
	}
	if *a.from == (instance{}) {
		*a.from = r
	}
	if *a.from != r {
		return errors.New("it comes from another run of the partner's program, which began again: start the whole task again, under a new id")
	}
	if n < a.next {
		return nil
	}
	if n-a.next > maxAhead {
		return fmt.Errorf("chunk %d came while chunk %d is missing", n, a.next)
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
			return fmt.Errorf("a message of more than %d bytes", maxMessage)
		}
		a.part = append(a.part, c.data...)
		if c.last {
			a.ready = append(a.ready, a.part)
			a.part = nil
		}
	}
}

// take returns the next whole message, if there is one.
func (a *assembler) take() ([]byte, bool) {
	if len(a.ready) == 0 {
		return nil, false
	}
	m := a.ready[0]
	a.ready = a.ready[1:]
	return m, true
}

// A message is: length of the head (4 bytes, big endian), head as JSON, body as it is.
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
		return nil, errors.New("a message without a head")
	}
	n := uint64(binary.BigEndian.Uint32(m))
	if n > uint64(len(m)-4) {
		return nil, errors.New("a message that ends inside its head")
	}
	if err := json.Unmarshal(m[4:4+n], head); err != nil {
		return nil, fmt.Errorf("a message whose head is not what was expected: %w", err)
	}
	return m[4+n:], nil
}
