package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"hutong/bfia"
	"hutong/internal/httpguard"
)

// readBody reads a request's body. It refuses one that is not UTF-8 or longer than limit bytes.
func (s *Server) readBody(c *fiber.Ctx, limit int64) ([]byte, error) {
	if n := c.Context().Request.Header.ContentLength(); int64(n) > limit {
		return nil, tooLarge(limit)
	}
	b, err := io.ReadAll(io.LimitReader(s.bodyStream(c), limit+1))
	if err != nil {
		return nil, readError(err)
	}
	if int64(len(b)) > limit {
		return nil, tooLarge(limit)
	}
	b = bytes.TrimPrefix(b, []byte("\uFEFF")) // a byte order mark, which editors of Windows write
	if !utf8.Valid(b) {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "body: is not UTF-8")
	}
	return b, nil
}

func tooLarge(limit int64) error {
	return bfia.Errorf(
		bfia.CodeTooLarge,
		"body: is longer than %d bytes, the limit jobs.max_document_bytes of this party; pass large values as a dataset",
		limit,
	)
}

// readJSON decodes a JSON body and marks the request as readable (localBodyRead).
func (s *Server) readJSON(c *fiber.Ctx, into any) error {
	b, err := s.readBody(c, s.MaxDocumentBytes)
	if err != nil {
		return err
	}
	if err := bfia.DecodeJSON(b, into); err != nil {
		return err
	}
	c.Locals(localBodyRead, true)
	return nil
}

// bodyStream returns the body, to be read as it arrives.
func (s *Server) bodyStream(c *fiber.Ctx) *body { return s.body(c.Context()) }

func (s *Server) body(ctx *fasthttp.RequestCtx) *body {
	if b, ok := ctx.UserValue(localBody).(*body); ok {
		return b
	}
	b := &body{r: http.NoBody, conn: ctx.Conn(), timeout: s.ClientTimeout, began: time.Now()}
	if stream := ctx.RequestBodyStream(); stream != nil {
		b.r, b.digest = stream, sha256.New()
	}
	ctx.SetUserValue(localBody, b)
	return b
}

// localBody is the key of a request's [body].
const localBody = "body"

// prefetched is the number of bytes of a body that the server reads before a handler gets it.
const prefetched = 8 << 10

// endBody closes the connection of a request that was not read to its end. Otherwise the rest of its body
// would be parsed as the next request.
func (s *Server) endBody(ctx *fasthttp.RequestCtx) {
	b := s.body(ctx)
	if n := ctx.Request.Header.ContentLength(); n >= 0 && n <= prefetched {
		_, _ = io.Copy(io.Discard, b)
	}
	if b.ended || ctx.RequestBodyStream() == nil {
		return
	}
	ctx.SetConnectionClose()
	if c := ownConn(ctx.Conn()); c != nil {
		c.unread.Store(true)
	}
}

func readError(err error) error {
	var fault *httpguard.Error
	if errors.As(err, &fault) {
		return bfia.Wrap(bfia.CodeBadRequest, err, "body: %s", fault.Message)
	}
	if timedOut(err) {
		return bfia.Wrap(bfia.CodeTimeout, err, "body: did not arrive in time")
	}
	return bfia.Wrap(bfia.CodeBadRequest, err, "body: ended too early")
}

// params reads a GET's parameters from the query string, as specified, or from a JSON body, as FATE-Flow
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
	c.Locals(localBodyRead, true)
	return func(name string) string {
		if v := c.Query(name); v != "" {
			return v
		}
		return text(body[name])
	}, nil
}

// text returns a JSON value as text: a string unquoted, anything else as it is written.
func text(raw json.RawMessage) string {
	var str string
	if json.Unmarshal(raw, &str) == nil {
		return str
	}
	return string(raw)
}
