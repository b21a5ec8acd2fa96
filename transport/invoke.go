package transport

import (
	"context"
	"net/url"
	"strings"
)

// pushURIs are the names under which partners push: of HTTP and of gRPC.
var pushURIs = map[string]bool{
	pathPush:               true,
	grpcContainer + "push": true,
}

// readURIs may not be called by partners: a node's queues are its own.
var readURIs = map[string]bool{
	pathPop:                   true,
	pathPeek:                  true,
	pathRelease:               true,
	grpcContainer + "pop":     true,
	grpcContainer + "peek":    true,
	grpcContainer + "release": true,
}

// serveInvoke takes a message from a partner's transport (API_SPECS part 4,
// 2.2.1 and 5.2). It never passes one on to a third node.
func (t *Transport) serveInvoke(x *exchange, s *session) error {
	uri := x.headers[headerURI]
	if uri == "" {
		return refuse(CodeBadRequest, "header %s is missing: it names what is called, such as %s", headerURI, pathPush)
	}
	// Some partners write a whole URL, with a host of their own invention.
	path := uri
	if u, err := url.Parse(uri); err == nil {
		path = u.Path
	}
	switch {
	case readURIs[path]:
		return refuse(CodeForbidden, "%s %s is for a node's own containers", headerURI, path)
	case !pushURIs[path]:
		return refuse(CodeNotFound, "%s %.200q is unknown here", headerURI, uri)
	}
	if err := t.forThisNode(x); err != nil {
		return err
	}
	form := wrappedPush
	if x.headers[headerVersion] == passThrough {
		form = plainPush
	}
	deadline, err := t.pushDeadline(x)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithDeadline(x.r.Context(), deadline)
	defer cancel()
	return t.accept(ctx, x, s, form)
}

// mayNameSessionInside tells whether the session may stand in the metadata that
// the body wraps, as some partners' gRPC has it.
func (x *exchange) mayNameSessionInside() bool {
	path := x.r.URL.Path
	return x.headers[headerVersion] != passThrough && (path == pathInvoke || path == pathStream || strings.HasPrefix(path, grpcPartner))
}

func (t *Transport) forThisNode(x *exchange) error {
	if target := x.headers[headerTargetNodeID]; target != "" && target != t.nodeID {
		return refuse(CodeNodeUnknown, "this is node %s, the message is for node %.200q", t.nodeID, target)
	}
	return nil
}
