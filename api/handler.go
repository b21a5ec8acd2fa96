package api

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"

	"hutong/internal/identity"
)

// PartnerHandler returns a handler of the endpoints for partners. The caller is the [identity.Principal] of
// the request's context, which the server in front has proved.
func (s *Server) PartnerHandler() http.Handler {
	serve := s.partners.Server().Handler
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := new(fasthttp.RequestCtx)
		ctx.Init2(&handlerConn{address: identity.Address{Principal: identity.From(r.Context())},
			control: http.NewResponseController(
				w,
			)}, slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn), false)

		request := &ctx.Request
		request.Header.SetMethod(r.Method)
		request.SetRequestURI(r.URL.RequestURI())
		request.SetHost(r.Host)
		for name, values := range r.Header {
			for _, value := range values {
				request.Header.Add(name, value)
			}
		}
		if r.ContentLength != 0 && r.Body != nil {
			request.SetBodyStream(r.Body, int(r.ContentLength))
		}
		serve(ctx)
		writeResponse(w, r.Method, &ctx.Response)
	})
}

// writeResponse copies a response of an application to a server of net/http.
func writeResponse(w http.ResponseWriter, method string, response *fasthttp.Response) {
	header := w.Header()
	response.Header.VisitAll(func(name, value []byte) {
		switch string(name) {
		case fasthttp.HeaderConnection, fasthttp.HeaderTransferEncoding, fasthttp.HeaderDate:
		case fasthttp.HeaderContentLength:
			if response.IsBodyStream() {
				header.Set(string(name), string(value))
			}
		default:
			header.Add(string(name), string(value))
		}
	})
	if response.ConnectionClose() {
		header.Set("Connection", "close")
	}
	w.WriteHeader(response.StatusCode())
	if method == http.MethodHead {
		return
	}
	if stream := response.BodyStream(); stream != nil {
		_, _ = io.Copy(w, stream) // the caller has left if it fails
		_ = response.CloseBodyStream()
		return
	}
	_, _ = w.Write(response.Body())
}

// handlerConn represents the connection of a request that another server has read. It has its caller and its
// deadlines.
type handlerConn struct {
	net.Conn
	address identity.Address
	control *http.ResponseController
}

// RemoteAddr returns the caller.
func (c *handlerConn) RemoteAddr() net.Addr { return c.address }

// LocalAddr returns an address without meaning.
func (c *handlerConn) LocalAddr() net.Addr { return identity.Address{} }

// SetReadDeadline limits the reading of the request's body.
func (c *handlerConn) SetReadDeadline(t time.Time) error { return c.control.SetReadDeadline(t) }
