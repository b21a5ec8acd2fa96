package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
)

// readBody reads a request's body up to limit bytes, and marks the request as readable.
func (s *Server) readBody(c *fiber.Ctx, limit int64) ([]byte, error) {
	r := s.bodyStream(c)
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, readError(err)
	}
	if int64(len(b)) > limit {
		return nil, bfia.Errorf(bfia.CodeTooLarge, "body: is over %d bytes", limit)
	}
	return b, nil
}

// readJSON reads a JSON body into something. Where it is a GET, the query's words stand in for a missing body.
func (s *Server) readJSON(c *fiber.Ctx, into any) error {
	b, err := s.readBody(c, s.MaxDocumentBytes)
	if err != nil {
		return err
	}
	if err := bfia.DecodeJSON(b, into); err != nil {
		return err
	}
	c.Locals(localReached, true)
	return nil
}

// bodyStream reads the body as it arrives. A client may take long over all of it, but not over each piece.
func (s *Server) bodyStream(c *fiber.Ctx) io.Reader {
	stream := c.Context().RequestBodyStream()
	if stream == nil {
		return bytes.NewReader(c.Body())
	}
	return &patientReader{r: stream, conn: c.Context().Conn(), timeout: s.ClientTimeout}
}

type patientReader struct {
	r       io.Reader
	conn    net.Conn
	timeout time.Duration
}

func (p *patientReader) Read(b []byte) (int, error) {
	if p.conn != nil && p.timeout > 0 {
		_ = p.conn.SetReadDeadline(time.Now().Add(p.timeout))
	}
	return p.r.Read(b)
}

func readError(err error) error {
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		return bfia.Errorf(bfia.CodeTimeout, "body: did not arrive in time")
	}
	return bfia.Wrap(bfia.CodeBadRequest, err, "body: ended before it was whole")
}

// params reads a GET's parameters: from the query string, as the specification has it, or from a JSON body, as FATE-Flow
// sends them.
func (s *Server) params(c *fiber.Ctx) (func(string) string, error) {
	b, err := s.readBody(c, s.MaxDocumentBytes)
	if err != nil {
		return nil, err
	}
	var body map[string]json.RawMessage
	if len(b) > 0 {
		if err := bfia.DecodeJSON(b, &body); err != nil {
			return nil, err
		}
	}
	c.Locals(localReached, true)
	return func(name string) string {
		if v := c.Query(name); v != "" {
			return v
		}
		return text(body[name])
	}, nil
}

// text is a JSON value as a word: a string as it is, a number or boolean in its spelling.
func text(raw json.RawMessage) string {
	var str string
	if json.Unmarshal(raw, &str) == nil {
		return str
	}
	return string(raw)
}
