package storage

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // S3 offers SHA-1 as a checksum against damage
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// The values of the header x-amz-content-sha256 for bodies in signed or checked chunks.
const (
	signedChunks          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	signedChunksTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	unsignedChunksTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// maxLine bounds a line between the chunks of a body.
const maxLine = 4 << 10

// chunks reads a body in chunks of the form "SIZE;chunk-signature=SIGNATURE\r\nDATA\r\n", which ends with an
// empty chunk and perhaps a trailer. It returns the data. It fails at the end of the first chunk whose
// signature is wrong.
type chunks struct {
	in   *bufio.Reader
	size int64 // of all data, as announced

	signed   bool
	key      []byte
	head     string // of a chunk's string to sign: the time and the scope
	previous string // the signature before

	checksum     hash.Hash // nil without a trailer
	checksumName string

	left      int64 // of the current chunk
	read      int64
	sum       hash.Hash // of the current chunk
	signature string    // of the current chunk
	begun     bool
	err       error
}

// newChunks returns a reader of a request's chunked body.
func newChunks(r *http.Request, s *signature, key []byte, form string) (*chunks, error) {
	size, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
	if err != nil || size < 0 {
		return nil, refusef(http.StatusLengthRequired, "MissingContentLength",
			"a body in chunks needs the header X-Amz-Decoded-Content-Length")
	}
	c := &chunks{in: bufio.NewReaderSize(r.Body, 64<<10), size: size, signed: form != unsignedChunksTrailer,
		key: key, previous: s.value, head: s.time.Format(timeFormat) + "\n" + s.scope() + "\n",
		sum: sha256.New()}
	if form == signedChunks {
		return c, nil
	}
	c.checksumName = strings.ToLower(strings.TrimSpace(r.Header.Get("X-Amz-Trailer")))
	switch c.checksumName {
	case "x-amz-checksum-crc32":
		c.checksum = crc32.NewIEEE()
	case "x-amz-checksum-crc32c":
		c.checksum = crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case "x-amz-checksum-crc64nvme":
		c.checksum = crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5))
	case "x-amz-checksum-sha1":
		c.checksum = sha1.New() //nolint:gosec // see the import
	case "x-amz-checksum-sha256":
		c.checksum = sha256.New()
	default:
		return nil, invalidRequest("header X-Amz-Trailer: must name one checksum of the body")
	}
	return c, nil
}

// Read implements [io.Reader].
func (c *chunks) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.left == 0 {
		if c.err = c.next(); c.err != nil {
			return 0, c.err
		}
	}
	n, err := c.in.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.read += int64(n)
	if c.signed {
		c.sum.Write(p[:n])
	}
	if c.checksum != nil {
		c.checksum.Write(p[:n])
	}
	if err != nil {
		c.err = incomplete(err)
		return n, c.err
	}
	return n, nil
}

// next ends the current chunk and reads the head of the next one. After the last one it returns io.EOF.
func (c *chunks) next() error {
	if c.begun {
		if err := c.endChunk(true); err != nil {
			return err
		}
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	sizeText, extension, _ := strings.Cut(line, ";")
	size, err := strconv.ParseUint(strings.TrimSpace(sizeText), 16, 62)
	if err != nil {
		return invalidRequest("a chunk of the body does not begin with its size")
	}
	if c.read+int64(size) > c.size || c.read+int64(size) < 0 {
		return invalidRequest("the body is longer than X-Amz-Decoded-Content-Length")
	}
	c.left, c.begun = int64(size), true
	c.signature = strings.TrimPrefix(extension, "chunk-signature=")
	c.sum.Reset()
	if size > 0 {
		return nil
	}

	if err := c.endChunk(c.checksum == nil); err != nil {
		return err
	}
	if c.read != c.size {
		return refusef(http.StatusBadRequest, "IncompleteBody",
			"the body is shorter than X-Amz-Decoded-Content-Length")
	}
	if c.checksum != nil {
		if err := c.trailer(); err != nil {
			return err
		}
	}
	return io.EOF
}

// endChunk checks the signature of a chunk and reads the end of its line.
func (c *chunks) endChunk(newline bool) error {
	if newline {
		if line, err := c.line(); err != nil {
			return err
		} else if line != "" {
			return invalidRequest("a chunk of the body is longer than its size")
		}
	}
	if !c.signed {
		return nil
	}
	want := hexHMAC(c.key, "AWS4-HMAC-SHA256-PAYLOAD\n"+c.head+c.previous+"\n"+hexSHA256("")+"\n"+
		hex.EncodeToString(c.sum.Sum(nil)))
	if !hmac.Equal([]byte(want), []byte(c.signature)) {
		return wrongSignature("the signature of a chunk of the body is wrong")
	}
	c.previous = want
	return nil
}

// trailer reads the lines after the last chunk, and checks the checksum and its signature.
func (c *chunks) trailer() error {
	values := map[string]string{}
	for len(values) < 10 {
		line, err := c.line()
		if err != nil && (!errors.Is(err, io.ErrUnexpectedEOF) || line == "") {
			return err
		}
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		values[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
		if err != nil {
			break // some clients end without an empty line
		}
	}
	got := values[c.checksumName]
	if got != base64.StdEncoding.EncodeToString(c.checksum.Sum(nil)) {
		return refusef(http.StatusBadRequest, "BadDigest", "the body does not have its checksum %s",
			c.checksumName)
	}
	if !c.signed {
		return nil
	}
	want := hexHMAC(c.key, "AWS4-HMAC-SHA256-TRAILER\n"+c.head+c.previous+"\n"+
		hexSHA256(c.checksumName+":"+got+"\n"))
	if !hmac.Equal([]byte(want), []byte(values["x-amz-trailer-signature"])) {
		return wrongSignature("the signature of the body's trailer is wrong")
	}
	return nil
}

// line reads a line that ends with CR LF, without its end.
func (c *chunks) line() (string, error) {
	var line []byte
	for len(line) <= maxLine {
		part, err := c.in.ReadSlice('\n')
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return string(bytes.TrimRight(line, "\r\n")), incomplete(err)
		}
		return string(bytes.TrimRight(line, "\r\n")), nil
	}
	return "", invalidRequest("a line between the chunks of the body is too long")
}

func incomplete(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// held reads from a body and keeps its last byte back until the body has ended well. A body that turns out to
// be forged at its end then never arrives whole, and nothing of it is stored.
type held struct {
	in   io.Reader
	last [1]byte
	has  bool
	err  error
}

// Read implements [io.Reader].
func (h *held) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if h.err != nil {
		return h.end(p)
	}
	rest := p
	if h.has { // the byte that was kept back comes first
		p[0] = h.last[0]
		rest = p[1:]
	}
	if len(rest) == 0 { // p has one byte, which is known already
		var next [1]byte
		n, err := h.in.Read(next[:])
		h.err = err
		if n == 0 {
			return h.end(p)
		}
		h.last = next
		return 1, nil
	}
	n, err := h.in.Read(rest)
	h.err = err
	filled := n + len(p) - len(rest)
	if n == 0 {
		return h.end(p)
	}
	h.last[0], h.has = p[filled-1], true
	return filled - 1, nil
}

// end returns the last byte once the body has ended well, and then how it ended.
func (h *held) end(p []byte) (int, error) {
	if h.err == nil {
		return 0, nil
	}
	if h.err == io.EOF && h.has {
		p[0], h.has = h.last[0], false
		return 1, io.EOF
	}
	return 0, h.err
}
