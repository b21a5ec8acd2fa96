package link

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// The names of the protocol. A link begins as a GET with the header Upgrade: hutong-link. Its services are
// in the header of that request, separated by commas, and the link's id is one that its keeper has chosen.
const (
	upgradeLink       = "hutong-link"
	upgradeConnection = "hutong-link-connection"
	headerServices    = "X-Hutong-Link-Services"
	headerID          = "X-Hutong-Link-Id"
)

const (
	// pingAfter is the silence after which each side of a link asks the other for an answer, and pingTimeout
	// is how long that may take before the link is closed. It also bounds how long a side reads nothing.
	pingAfter   = 4 * time.Second
	pingTimeout = 8 * time.Second
	// maxConnections bounds the connections of a link, and maxLinks the links with one partner that a
	// process holds. Over HTTP/1.1 each message that waits for its sender's rate has a connection; there are
	// about twice as many as may wait (limits.MaxWaiting).
	maxConnections = 1000
	maxLinks       = 32
	// dialTimeout bounds the time until one holder or link has opened a connection.
	dialTimeout = 5 * time.Second
	// closeGrace is how long a partner may take to receive what was sent over a connection that was closed.
	closeGrace = 5 * time.Second
	// A connection whose reader pauses holds up to streamWindow bytes. Even if all do, the rest of the link
	// must not wait for them.
	streamWindow = 256 << 10
	linkWindow   = maxConnections * streamWindow
	// maxHeaders bounds the headers of a stream, which has few.
	maxHeaders = 16 << 10
)

// Service is something that a party serves its partners.
type Service string

// The services of a party.
const (
	// Commands is the API for partners.
	Commands Service = "commands"
	// Messages is the transport for partners.
	Messages Service = "messages"
)

// hostSuffix ends the hosts of the URLs of services. No name server knows such a host (RFC 2606).
const hostSuffix = ".link.invalid"

// URL returns the base URL of a service of a partner that is reached by a link. It is the same for all
// partners.
func (s Service) URL() string { return "https://" + string(s) + hostSuffix }

// ServiceAt returns the service at the host:port of a URL of [Service.URL].
func ServiceAt(address string) (Service, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	name, found := strings.CutSuffix(host, hostSuffix)
	if s := Service(name); found && s.known() {
		return s, nil
	}
	return "", fmt.Errorf("%s is not the address of a service that a link serves", address)
}

func (s Service) known() bool { return s == Commands || s == Messages }

// parseServices parses the header with the services of a link.
func parseServices(text string) ([]Service, error) {
	var services []Service
	for name := range strings.SplitSeq(text, ",") {
		s := Service(strings.TrimSpace(name))
		if s.known() && !slices.Contains(services, s) {
			services = append(services, s) // a later version may know others
		}
	}
	if len(services) == 0 {
		return nil, fmt.Errorf("header %s: must name %s, %s or both, but is %.100q", headerServices, Commands,
			Messages, text)
	}
	return services, nil
}

func formatServices(services []Service) string {
	names := make([]string, len(services))
	for i, s := range services {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// State describes a link that is up.
type State struct {
	// Node is the partner.
	Node     string    `json:"node_id"`
	Services []Service `json:"services"`
	// Address is the other end of the link.
	Address string    `json:"address"`
	Since   time.Time `json:"since"`
	// Connections is the number of open connections over the link.
	Connections int `json:"connections"`
}

// errNoLink reports that a process holds no link with a service of a partner.
var errNoLink = errors.New("no link with the partner is up")

// dialError returns the error of a connection that was not opened, in the form of [net.Dialer]: so it is
// known that no request was sent.
func dialError(node string, service Service, err error) error {
	at := Address{Node: node, Address: string(service) + " of " + node}
	return &net.OpError{Op: "dial", Net: "link", Addr: at, Err: err}
}

// Address is the remote address of a connection over a link.
type Address struct {
	// Node is the partner with which the link is. Only that partner may use the connection.
	Node string
	// Address is the host:port of the other end of the link.
	Address string
}

// Network returns "link".
func (Address) Network() string { return "link" }

// String returns the host:port.
func (a Address) String() string { return a.Address }

// Origin returns whose connections a limit counts together: behind a proxy, the links with all partners have
// one host.
func (a Address) Origin() string {
	host, _, err := net.SplitHostPort(a.Address)
	if err != nil {
		host = a.Address
	}
	return a.Node + " at " + host
}
