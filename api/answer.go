package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"hutong/bfia"
	"hutong/internal/limits"
	"hutong/store/blob"
)

// maxMessage bounds the bytes of an error's message that are sent and logged, since it may quote what the
// client sent.
const maxMessage = 2 << 10

// retryAfter is the number of seconds after which a client may repeat a request that was answered with 503.
const retryAfter = "5"

// isV2 reports whether answers on a path use the field message; all others use msg.
func isV2(path string) bool { return strings.HasPrefix(path, "/v2/") }

// ok answers with success. A nil data becomes an empty object.
func ok(c *fiber.Ctx, data any) error {
	if data == nil {
		data = struct{}{}
	}
	return answer(c, "success", data, nil)
}

// answer writes a success envelope. extra holds fields that FATE-Flow puts next to data.
func answer(c *fiber.Ctx, message string, data any, extra map[string]any) error {
	body := map[string]any{"code": bfia.CodeOK, "data": data}
	if isV2(c.Path()) {
		body["message"] = message
	} else {
		body["msg"] = message
	}
	for k, v := range extra {
		body[k] = v
	}
	return c.JSON(body)
}

// fail answers with an error. The cause, which the caller must not see, goes to the log.
func (s *Server) fail(c *fiber.Ctx, err error) error {
	var fiberErr *fiber.Error
	if errors.As(err, &fiberErr) && fiberErr.Code < 500 {
		err = bfia.Errorf(bfia.CodeBadRequest, "%s", fiberErr.Message)
	}
	if bfia.CodeOf(err) == bfia.CodeInternal && blob.IsDiskFull(err) {
		err = bfia.Wrap(bfia.CodeUnavailable, err, "this party has no space left on its disk")
	}
	code, message := bfia.CodeOf(err), cut(bfia.MessageOf(err))
	if bfia.ServiceOf(err) == bfia.WaitsForDatabase && showsWaits(c.Path()) {
		message += s.waitsElsewhere(c.Query("job_id"))
	}
	status := code.HTTPStatus()
	log := s.logger.With("method", c.Method(), "path", cut(c.Path()), "code", int(code), "error",
		cut(err.Error()))
	if status >= 500 {
		log.ErrorContext(c.UserContext(), "request failed")
	} else {
		log.InfoContext(c.UserContext(), "request refused")
	}
	var wrong *wrongMethod
	if errors.As(err, &wrong) {
		c.Set(fiber.HeaderAllow, strings.Join(wrong.allowed, ", "))
	}

	challenge(c, err)
	var exceeded *limits.Exceeded
	if errors.As(err, &exceeded) {
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(exceeded.Seconds()))
	}
	if status == http.StatusServiceUnavailable {
		c.Set(fiber.HeaderRetryAfter, retryAfter)
	}

	eastWest := strings.HasPrefix(c.Path(), "/v1/interconn/") ||
		strings.HasPrefix(c.Path(), "/v2/partner/") || strings.HasPrefix(c.Path(), "/v2/scheduler/")
	bodyRead := c.Locals(localBodyRead) != nil
	if eastWest && bodyRead && (status < 500 || code == bfia.CodePartnerDown) {
		status = http.StatusOK
	}

	if answered, err := failFATE(c, code, message); answered {
		return err
	}
	field := "msg"
	if isV2(c.Path()) {
		field = "message"
	}
	return c.Status(status).JSON(map[string]any{"code": code, field: message, "data": struct{}{}})
}

// localBodyRead marks a request whose body could be read. Later errors are answers of the protocol,
// with HTTP status 200 between parties.
const localBodyRead = "body_read"

// cut shortens text that may quote a client.
func cut(text string) string {
	if len(text) > maxMessage {
		text = text[:maxMessage] + "…"
	}
	return strings.ToValidUTF8(text, string(utf8.RuneError))
}

// methods returns the methods that routes accept on a path.
func methods(routes []route, path string) []string {
	var list []string
	for _, r := range routes {
		if r.path == path {
			list = append(list, r.method)
		}
	}
	return list
}

// wrongMethod is the cause of a CodeMethod.
type wrongMethod struct{ allowed []string }

func (w *wrongMethod) Error() string { return "allowed: " + strings.Join(w.allowed, ", ") }

// noRoute returns the error for a request that no route accepts. allowed lists the methods that its path
// accepts.
func noRoute(method, path string, allowed []string) error {
	if len(allowed) > 0 {
		return bfia.Wrap(bfia.CodeMethod, &wrongMethod{allowed}, "%s %s: this path accepts %s", method, path,
			strings.Join(allowed, " and "))
	}
	return bfia.Errorf(bfia.CodeNotFound, "%s %s: no such endpoint; %s lists all", method, path,
		bfia.PathOpenAPI)
}

// broken answers a request that is not HTTP or did not arrive whole, and closes the connection.
func (s *Server) broken(ctx *fasthttp.RequestCtx, err error) {
	var tooLong *fasthttp.ErrSmallBuffer
	code, message := bfia.CodeBadRequest, "failed to read the HTTP request: it is malformed"
	fault := forbidden(ctx.Conn())
	switch {
	case fault != nil:
		message = "failed to read the HTTP request: " + fault.Message
	case errors.As(err, &tooLong):
		code, message = bfia.CodeTooLarge, "the headers of the request are too large"
	// the server hides the type of some errors
	case timedOut(err) || strings.Contains(err.Error(), "timeout"):
		code, message = bfia.CodeTimeout, "the request did not arrive in time"
	}
	s.logger.Info("request refused", "code", int(code), "error", cut(err.Error()))
	if c := ownConn(ctx.Conn()); c != nil {
		c.unread.Store(true)
	}
	// always marshals
	answer, _ := json.Marshal(map[string]any{"code": code, "msg": message, "data": struct{}{}})
	ctx.Response.Reset()
	ctx.SetStatusCode(code.HTTPStatus())
	ctx.SetContentType(fiber.MIMEApplicationJSON)
	ctx.SetBody(answer)
}
