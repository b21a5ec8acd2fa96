package identity

// Address is the remote address of a connection whose caller is known when it opens, such as one within a
// process. It implements [net.Addr].
type Address struct{ Principal Principal }

// Network returns "identity".
func (Address) Network() string { return "identity" }

// String returns the host from which the caller came, or its name.
func (a Address) String() string {
	if a.Principal.Address != "" {
		return a.Principal.Address
	}
	return a.Principal.String()
}
