package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A queue's log is a sequence of records: length of the body (4 bytes, little
// endian), its CRC-32C (4 bytes), body. A body is its kind (1 byte) and fields.
const recordHead = 8

// maxRecord is larger than any record: what claims more is not one.
const maxRecord = inlineBytes + 4*maxName + idWindow*16 + 1024

type recordKind byte

const (
	// recordQueue begins every log: whose it is, and what was known of the queue.
	recordQueue recordKind = 'Q'
	// recordMessage is a message with its bytes, recordBlob one whose bytes are a file of their own.
	recordMessage recordKind = 'M'
	recordBlob    recordKind = 'B'
	// recordConsumed tells that all messages up to one have been read or dropped.
	recordConsumed recordKind = 'C'
	// recordReturned tells that the message that was consumed last is unread again.
	recordReturned recordKind = 'R'
)

const recordVersion = 1

// idKey is a message id, or a pop's, at a fixed length. The zero key is none.
type idKey [16]byte

// record is a record's content; which fields count depends on the kind.
type record struct {
	kind recordKind
	// seq is the message's number, or the last one that was consumed.
	seq int64
	// id is the message's, or the pop's that may be repeated; see queue.retained.
	id idKey
	// size is a blob's.
	size int64
	// payload is a message's, within the memory that was decoded.
	payload []byte

	session, topic string
	retained       int64 // the retained message; its pop is id
	seen           []idKey
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errTorn    = errors.New("torn record")
)

// appendTo encodes the record with its head.
func (r record) appendTo(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, recordHead)...)
	b = append(b, byte(r.kind))
	if r.kind == recordQueue {
		b = append(b, recordVersion)
		b = binary.AppendUvarint(b, uint64(len(r.session)))
		b = append(b, r.session...)
		b = binary.AppendUvarint(b, uint64(len(r.topic)))
		b = append(b, r.topic...)
		b = binary.AppendUvarint(b, uint64(r.retained))
		b = binary.AppendUvarint(b, uint64(len(r.seen)))
		for _, id := range r.seen {
			b = append(b, id[:]...)
		}
	}
	b = binary.AppendUvarint(b, uint64(r.seq))
	b = append(b, r.id[:]...)
	switch r.kind {
	case recordMessage:
		b = append(b, r.payload...)
	case recordBlob:
		b = binary.AppendUvarint(b, uint64(r.size))
	}
	body := b[start+recordHead:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

// nextRecord decodes the record at the beginning of b and tells its length.
// errTorn is a record that is not whole.
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
	case recordQueue:
		if v := d.byte(); v != recordVersion && d.err == nil {
			return r, fmt.Errorf("version %d of the spool is not one that this program knows", v)
		}
		r.session = string(d.take(d.uvarint()))
		r.topic = string(d.take(d.uvarint()))
		r.retained = d.uvarint()
		for n := d.uvarint(); n > 0 && d.err == nil; n-- {
			r.seen = append(r.seen, d.id())
		}
	case recordMessage, recordBlob, recordConsumed, recordReturned:
	default:
		return r, fmt.Errorf("record of an unknown kind %q", byte(r.kind))
	}
	r.seq = d.uvarint()
	r.id = d.id()
	switch r.kind {
	case recordMessage:
		r.payload = d.b
	case recordBlob:
		r.size = d.uvarint()
	}
	return r, d.err
}

// decoder takes fields off a body; its first error stays.
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

func (d *decoder) id() (id idKey) {
	copy(id[:], d.take(int64(len(id))))
	return id
}
