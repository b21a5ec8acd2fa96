package partners

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/internal/identity"
	"hutong/transport/status"
)

// The headers in which a request names its sender. The first are those of the control layer, the last is the
// transport's.
var senderHeaders = []string{"x-source-node-id", "x-node-id", headerTransportSource}

const (
	headerTransportSource = "x-ptp-source-node-id"
	headerTransportFrom   = "x-ptp-from-node-id" // FATE's name of the source
	transportPaths        = "/v1/interconn/chan/"
)

// Authenticate determines which partner makes a request. The request must prove it in the way that the
// partner's route says, and no header may name another node. The error is a [bfia.Error]:
// CodeUnauthenticated without a valid proof, CodeForbidden if the request contradicts itself.
//
// A stranger that may apply for a contract is anonymous, with the fingerprint of its key as credential.
func (d *Directory) Authenticate(r *http.Request) (identity.Principal, error) {
	p, err := d.authenticate(r)
	if err != nil {
		var refusal *bfia.Error
		if errors.As(err, &refusal) && refusal.Code == bfia.CodeForbidden {
			return identity.Principal{}, refusal
		}
		return identity.Principal{}, refusalOf(err)
	}
	if p.Kind != identity.KindPartner {
		return p, nil
	}
	for _, name := range senderHeaders {
		for _, named := range headerValues(r.Header, name) {
			if named != "" && named != p.Node {
				return identity.Principal{}, bfia.Errorf(bfia.CodeForbidden,
					"the header %s names node %.128q, but the sender is node %s", name, named, p.Node)
			}
		}
	}
	return p, nil
}

// headerValues returns the values of a header in all spellings.
func headerValues(h http.Header, name string) []string {
	values := h.Values(name)
	if underscored := h.Values(strings.ReplaceAll(name, "-", "_")); len(underscored) > 0 {
		return append(values[:len(values):len(values)], underscored...)
	}
	return values
}

func (d *Directory) authenticate(r *http.Request) (identity.Principal, error) {
	now := time.Now()
	address := addressOf(r.RemoteAddr)
	principal := identity.Principal{Kind: identity.KindPartner, Address: address.String()}
	snapshot := d.current.Load()

	state := connectionState(r)
	behind := state != nil && len(state.PeerCertificates) > 0 &&
		d.cfg.Gateways.isKey(state.PeerCertificates[0])
	if !behind && len(d.cfg.Gateways.named(r)) > 0 {
		return principal, bfia.Errorf(bfia.CodeForbidden, "the header %s is only for the gateways of this "+
			"party (partners.trusted_proxies)", d.cfg.Gateways.Header)
	}
	if state != nil && len(state.PeerCertificates) > 0 {
		var p Partner
		var fingerprint string
		var err error
		if behind {
			p, fingerprint, err = d.identifyBehind(r, now)
		} else {
			p, err = snapshot.identify(state.PeerCertificates, withGrace(state.PeerCertificates[0], now))
			fingerprint = certs.PinOf(state.PeerCertificates[0]).Hex()
		}
		if err != nil && fingerprint == "" {
			return principal, err
		}
		if err != nil {
			if d.admitsStrangers() && d.cfg.StrangerPaths[r.URL.Path] {
				return identity.Principal{Proof: identity.ByCertificate, Credential: fingerprint,
					Address: principal.Address}, nil
			}
			return principal, err
		}
		principal.Node, principal.Proof, principal.Credential = p.Node, identity.ByCertificate, fingerprint
		if p.Auth == MTLSSign {
			signature, err := d.cfg.Methods[MTLSSign].Verify(r, p)
			if err != nil {
				return principal, err
			}
			principal.Proof, principal.Credential = identity.BySignature, fingerprint+" "+signature
		}
		return principal, nil
	}

	for _, m := range []struct {
		auth  Auth
		proof identity.Proof
	}{{Sign, identity.BySignature}, {FATESite, identity.ByFATE}} {
		method := d.cfg.Methods[m.auth]
		if method == nil {
			continue
		}
		node, ok, err := method.Claims(r)
		if !ok {
			continue
		}
		if err != nil {
			return principal, err
		}
		p, found := d.Lookup(node)
		if !found || p.Auth != m.auth {
			return principal, fmt.Errorf(
				"no route says that node %.128q proves who it is by %s alone",
				node,
				m.auth,
			)
		}
		credential, err := method.Verify(r, p)
		if err != nil {
			return principal, err
		}
		principal.Node, principal.Proof, principal.Credential = p.Node, m.proof, credential
		return principal, nil
	}

	claimed := bfia.Sender(r.Header.Get)
	if claimed == "" {
		claimed = bfia.Header(r.Header.Get, headerTransportSource)
	}
	p, err := snapshot.byAddress(claimed, address)
	if err != nil {
		return principal, err
	}
	principal.Node, principal.Proof, principal.Credential = p.Node, identity.ByAddress, address.String()
	return principal, nil
}

func (d *Directory) admitsStrangers() bool { return d.cfg.Strangers != nil && d.cfg.Strangers() }

// Require returns a handler that lets only partners reach another one, with their [identity.Principal] in the
// request's context. It refuses others in the form of the protocol. The header that names the source of a
// transport's message becomes the node that the request has proved.
func (d *Directory) Require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := connectionOf(r); c != nil && c.shouldClose() {
			w.Header().Set("Connection", "close") // HTTP/2 ends the connection after its open requests
		}
		r = withController(w, r)
		p, err := d.Authenticate(r)
		if err != nil {
			if d.refused.allow() {
				d.logger.Warn("refused a request of a partner", "address", r.RemoteAddr, "path", r.URL.Path,
					"error", err)
			}
			if d.cfg.OnRefusal != nil {
				d.cfg.OnRefusal(r, err)
			}
			refuse(w, r, err)
			return
		}
		if p.Kind == identity.KindPartner {
			for _, name := range []string{headerTransportSource, headerTransportFrom} {
				r.Header.Del(name)
				r.Header.Del(strings.ReplaceAll(name, "-", "_"))
			}
			r.Header.Set(headerTransportSource, p.Node)
		}
		d.cfg.Gateways.drop(r)
		r = r.WithContext(identity.With(r.Context(), p))
		r.TLS = connectionState(r)
		next.ServeHTTP(w, r)
	})
}

// refuse answers a request in the form of the layer that it calls.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	code, message := bfia.CodeOf(err), bfia.MessageOf(err)
	if isFATECode(code) && !isFATEFlow(r.URL.Path) {
		code = bfia.CodeUnauthenticated
	}
	h := w.Header()
	switch {
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
		const permissionDenied, unavailable, unauthenticated = "7", "14", "16"
		grpc := permissionDenied
		switch code {
		case bfia.CodeUnauthenticated:
			grpc = unauthenticated
		case bfia.CodeUnavailable:
			grpc = unavailable
		}
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", grpc)
		h.Set("Grpc-Message", percentEncode(message))
		w.WriteHeader(http.StatusOK)
		return
	case strings.HasPrefix(r.URL.Path, transportPaths):
		writeJSON(w, code.HTTPStatus(), map[string]any{"code": status.Forbidden, "message": message})
	case isFATEFlow(r.URL.Path) && code != bfia.CodeUnavailable:
		writeJSON(w, http.StatusOK, bfia.Envelope{Code: code, Message: message})
	case strings.HasPrefix(r.URL.Path, "/v2/"):
		writeJSON(w, code.HTTPStatus(), bfia.Envelope{Code: code, Message: message})
	default:
		writeJSON(w, code.HTTPStatus(), bfia.Envelope{Code: code, Msg: message})
	}
}

func writeJSON(w http.ResponseWriter, httpStatus int, answer any) {
	body, err := json.Marshal(answer)
	if err != nil {
		httpStatus, body = http.StatusInternalServerError, []byte(`{"code":5000,"msg":"internal error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(httpStatus)
	_, _ = w.Write(body)
}

// percentEncode encodes a gRPC status message: printable ASCII without the percent sign stays.
func percentEncode(message string) string {
	var out strings.Builder
	for _, b := range []byte(message) {
		if b >= ' ' && b <= '~' && b != '%' {
			out.WriteByte(b)
		} else {
			fmt.Fprintf(&out, "%%%02X", b)
		}
	}
	return out.String()
}
