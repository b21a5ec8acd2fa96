package transport

import (
	"context"
	"net/url"
)

// pushURIs are the names under which partners push: of HTTP and of gRPC.
var pushURIs = map[string]bool{
	pathPush: true,
	"/org.ppc.ptp.PrivateTransferTransport/push": true,
}

// readURIs may not be called by partners: a node's queues are its own.
var readURIs = map[string]bool{
	pathPop:     true,
	pathPeek:    true,
	pathRelease: true,
	"/org.ppc.ptp.PrivateTransferTransport/pop":     true,
	"/org.ppc.ptp.PrivateTransferTransport/peek":    true,
	"/org.ppc.ptp.PrivateTransferTransport/release": true,
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
	if target := x.headers[headerTargetNodeID]; target != "" && target != t.nodeID {
		return refuse(CodeNodeUnknown, "this is node %s, the message is for node %.200q", t.nodeID, target)
	}
	form := wrappedPush
	if x.headers[headerVersion] == passThrough {
		form = plainPush
	}
	deadline, err := t.pushDeadline(x.headers)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithDeadline(x.r.Context(), deadline)
	defer cancel()
	return t.accept(ctx, x, s, x.headers.source(), form)
}
