package transport

import (
	"context"
	"net/url"
	"strings"

	"hutong/transport/queue"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// pushURIs are the values of x-ptp-uri with which partners push, of HTTP and of gRPC.
var pushURIs = map[string]bool{
	pathPush:               true,
	grpcContainer + "push": true,
}

// readURIs must not be called by partners: only a party's own containers read its queues.
var readURIs = map[string]bool{
	pathPop:                   true,
	pathPeek:                  true,
	pathRelease:               true,
	grpcContainer + "pop":     true,
	grpcContainer + "peek":    true,
	grpcContainer + "release": true,
}

// serveInvoke accepts a message from a partner's transport (API_SPECS part 4, 2.2.1 and 5.2). It never
// forwards one to a third node.
func (t *Transport) serveInvoke(x *exchange, s *queue.Session) error {
	uri := x.headers[wire.HeaderURI]
	if uri == "" {
		return status.Errorf(status.BadRequest, "header %s is missing: it names the called route, such as %s",
			wire.HeaderURI, pathPush)
	}
	// Some partners send a whole URL, whose host is meaningless.
	path := uri
	if u, err := url.Parse(uri); err == nil {
		path = u.Path
	}
	switch {
	case readURIs[path]:
		return status.Errorf(status.Forbidden, "%s %s is only for a party's own containers",
			wire.HeaderURI, path)
	case !pushURIs[path]:
		return status.Errorf(status.NotFound, "%s %.200q is not a route of this transport",
			wire.HeaderURI, uri)
	}
	if err := t.checkTarget(x); err != nil {
		return err
	}

	form := wire.Wrapped
	if x.headers[wire.HeaderVersion] == wire.PassThrough {
		form = wire.Plain
	}
	deadline, err := t.pushDeadline(x)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithDeadline(x.r.Context(), deadline)
	defer cancel()
	return t.accept(ctx, x, s, form)
}

// mayNameSessionInside reports whether the metadata inside the body may name the session, as some partners'
// gRPC does.
func (x *exchange) mayNameSessionInside() bool {
	if x.headers[wire.HeaderVersion] == wire.PassThrough {
		return false
	}
	return isPartnerPath(x.r.URL.Path)
}

// isPartnerPath reports whether a path is one that partners call.
func isPartnerPath(path string) bool {
	return path == pathInvoke || path == pathStream || strings.HasPrefix(path, grpcPartner)
}

// checkTarget refuses a message that names another node as its target.
func (t *Transport) checkTarget(x *exchange) error {
	if target := x.headers[wire.HeaderTargetNodeID]; target != "" && target != t.nodeID {
		return status.Errorf(status.NodeUnknown, "this is node %s, the message is for node %.200q",
			t.nodeID, target)
	}
	return nil
}
