package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A queue's log is a sequence of records: length of the body (4 bytes, little endian), its CRC-32C (4 bytes),
// body. A body is its kind (1 byte) and fields.
const recordHead = 8

// maxRecord exceeds the size of any record. A length above it is corrupt.
const maxRecord = InlineBytes + 4*MaxName + idWindow*16 + 1024

type recordKind byte

const (
	// kindQueue starts each segment: whose log it is, and a checkpoint of the queue's state.
	kindQueue recordKind = 'Q'
	// kindMessage is a message with its bytes.
	kindMessage recordKind = 'M'
	// kindBlob is a message whose bytes are a file of their own.
	kindBlob recordKind = 'B'
	// kindConsumed records that all messages up to one were read or dropped.
	kindConsumed recordKind = 'C'
	// kindReturned records that the message that was consumed last is unread again.
	kindReturned recordKind = 'R'
)

const recordVersion = 1

// record is the content of a record. The kind determines which fields it has.
type record struct {
	kind recordKind
	// seq is the message's sequence number, or that of the last consumed message.
	seq int64
	// id is the message's, or that of the pop that may be repeated; see topicQueue.redeliverable.
	id idKey
	// from is the partner that sent a message, or "".
	from string
	// size is the size of a blob.
	size int64
	// payload is a message's. It shares the memory that was decoded.
	payload []byte

	session, topic string
	redeliverable  int64 // a sequence number; the pop's id is id
	seen           []idKey
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errTorn    = errors.New("torn record")
)

// appendTo appends the encoded record, with its head, to b.
func (r record) appendTo(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, recordHead)...)
	b = append(b, byte(r.kind))
	if r.kind == kindQueue {
		b = append(b, recordVersion)
		b = appendText(b, r.session)
		b = appendText(b, r.topic)
		b = binary.AppendUvarint(b, uint64(r.redeliverable))
		b = binary.AppendUvarint(b, uint64(len(r.seen)))
		for _, id := range r.seen {
			b = append(b, id[:]...)
		}
	}

	b = binary.AppendUvarint(b, uint64(r.seq))
	b = append(b, r.id[:]...)
	switch r.kind {
	case kindMessage:
		b = appendText(b, r.from)
		b = append(b, r.payload...)
	case kindBlob:
		b = appendText(b, r.from)
		b = binary.AppendUvarint(b, uint64(r.size))
	}

	body := b[start+recordHead:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

func appendText(b []byte, text string) []byte {
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

// nextRecord decodes the record at the beginning of b and returns its length. An incomplete or damaged record
// is errTorn.
func nextRecord(b []byte) (record, int, error) {
	if len(b) < recordHead {
		return record{}, 0, errTorn
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n > maxRecord || n > int64(len(b)-recordHead) {
		return record{}, 0, errTorn
	}
	body := b[recordHead : recordHead+n]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return record{}, 0, errTorn
	}

	r, err := decodeRecord(body)
	return r, recordHead + int(n), err
}

func decodeRecord(body []byte) (r record, err error) {
	d := decoder{b: body}
	r.kind = recordKind(d.byte())
	switch r.kind {
	case kindQueue:
		if v := d.byte(); v != recordVersion && d.err == nil {
			return r, fmt.Errorf("the spool has version %d, and this program supports version %d",
				v, recordVersion)
		}
		r.session = d.text()
		r.topic = d.text()
		r.redeliverable = d.uvarint()
		for n := d.uvarint(); n > 0 && d.err == nil; n-- {
			r.seen = append(r.seen, d.id())
		}
	case kindMessage, kindBlob, kindConsumed, kindReturned:
	default:
		return r, fmt.Errorf("a record has the unknown kind %q", byte(r.kind))
	}

	r.seq = d.uvarint()
	r.id = d.id()
	switch r.kind {
	case kindMessage:
		r.from = d.text()
		r.payload = d.b
	case kindBlob:
		r.from = d.text()
		r.size = d.uvarint()
	}
	return r, d.err
}

// decoder takes fields off a body. Its first error stays.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int64) []byte {
	if d.err != nil || n < 0 || n > int64(len(d.b)) {
		d.err = errTorn
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uvarint() int64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > 1<<62 {
		d.err = errTorn
		return 0
	}
	d.b = d.b[n:]
	return int64(v)
}

func (d *decoder) text() string { return string(d.take(d.uvarint())) }

func (d *decoder) id() (id idKey) {
	copy(id[:], d.take(int64(len(id))))
	return id
}
