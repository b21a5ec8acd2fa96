package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"hutong/bfia"
)

// maxMessage is how many bytes of an error's message are sent and logged: it may quote what the client sent.
const maxMessage = 2 << 10

// isV2 tells the dialect of a path: /v2 says message, all else says msg.
func isV2(path string) bool { return strings.HasPrefix(path, "/v2/") }

// ok answers with success. Data is nil for an empty object.
func ok(c *fiber.Ctx, data any) error {
	if data == nil {
		data = struct{}{}
	}
	return answer(c, "success", data, nil)
}

// answer writes an envelope with success. extra stands beside data, where FATE-Flow has some fields.
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

// fail answers with an error. What the caller may not read goes to the log.
func (s *Server) fail(c *fiber.Ctx, err error) error {
	var fiberErr *fiber.Error
	if errors.As(err, &fiberErr) && fiberErr.Code < 500 {
		err = bfia.Errorf(bfia.CodeBadRequest, "%s", fiberErr.Message)
	}
	code, message := bfia.CodeOf(err), cut(bfia.MessageOf(err))
	status := code.HTTPStatus()
	log := s.logger.With("method", c.Method(), "path", cut(c.Path()), "code", int(code), "error", cut(err.Error()))
	if status >= 500 {
		log.Error("request failed")
	} else {
		log.Info("request refused")
	}
	var wrong *wrongMethod
	if errors.As(err, &wrong) {
		c.Set(fiber.HeaderAllow, strings.Join(wrong.allowed, ", "))
	}
	eastWest := strings.HasPrefix(c.Path(), "/v1/interconn/") || strings.HasPrefix(c.Path(), "/v2/partner/") || strings.HasPrefix(c.Path(), "/v2/scheduler/")
	reached := c.Locals(localReached) != nil
	if eastWest && reached && (status < 500 || code == bfia.CodePartnerDown) {
		status = http.StatusOK
	}
	field := "msg"
	if isV2(c.Path()) {
		field = "message"
	}
	return c.Status(status).JSON(map[string]any{"code": code, field: message, "data": struct{}{}})
}

// localReached marks a request whose body was readable: what is wrong with it from there on is the protocol's matter.
const localReached = "reached"

// cut shortens what may quote a client's words.
func cut(text string) string {
	if len(text) > maxMessage {
		text = text[:maxMessage] + "…"
	}
	return strings.ToValidUTF8(text, string(utf8.RuneError))
}

// methods are those with which routes has a path.
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

// noRoute is the error for what no route takes; allowed are the methods that the path takes.
func noRoute(method, path string, allowed []string) error {
	if len(allowed) > 0 {
		return bfia.Wrap(bfia.CodeMethod, &wrongMethod{allowed}, "%s %s: this path takes %s", method, path, strings.Join(allowed, " and "))
	}
	return bfia.Errorf(bfia.CodeNotFound, "%s %s: there is no such endpoint; %s lists them", method, path, bfia.PathOpenAPI)
}

// broken answers to what is no HTTP request, or did not arrive; the connection ends after it.
func (s *Server) broken(ctx *fasthttp.RequestCtx, err error) {
	var tooLong *fasthttp.ErrSmallBuffer
	code, message := bfia.CodeBadRequest, "this is no HTTP request that can be read"
	switch {
	case errors.As(err, &tooLong):
		code, message = bfia.CodeTooLarge, "the headers of the request are too large"
	case timedOut(err) || strings.Contains(err.Error(), "timeout"): // the server hides some errors' kind
		code, message = bfia.CodeTimeout, "the request did not arrive in time"
	}
	s.logger.Info("request refused", "code", int(code), "error", cut(err.Error()))
	if c, ok := ctx.Conn().(*conn); ok {
		c.unread.Store(true)
	}
	answer, _ := json.Marshal(map[string]any{"code": code, "msg": message, "data": struct{}{}}) // always marshals
	ctx.Response.Reset()
	ctx.SetStatusCode(code.HTTPStatus())
	ctx.SetContentType(fiber.MIMEApplicationJSON)
	ctx.SetBody(answer)
}
