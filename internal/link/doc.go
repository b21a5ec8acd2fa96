// Package link lets a party reach a partner whose network allows it only to dial out.
//
// The partner keeps a link to this party: it connects to this party's listener for partners, proves who it is
// as for any other request, and upgrades the connection. From then on the roles are reversed. This party is
// the client of HTTP/2 on the link, and each stream is a connection to a [Service] of the partner.
//
// The streams carry the bytes of connections, not requests. In them this party and its partner speak mutual
// TLS and HTTP as they do over TCP, with the same code on both sides: the partner serves the connections of a
// [Listener] as it serves those of its other listeners. So a link makes nothing else reachable. A process
// that only holds it, or a gateway that ends its TLS, can neither read a request nor make one.
//
// The partner has a [Keeper] for each address to which it keeps a link. This party's transports have a
// [Holder] each. Its other processes have a [Dialer], which finds a transport that holds a link and reaches
// the partner through it.
package link
