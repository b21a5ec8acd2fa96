package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/network"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink/nlenc"
	"golang.org/x/sys/unix"

	"hutong/activities/driver"
)

// ErrNoGuard reports that this process may not close the machine's ports to containers, because it lacks the
// capability CAP_NET_ADMIN.
var ErrNoGuard = errors.New("this process lacks the capability CAP_NET_ADMIN")

// guardTable is the prefix of the nftables tables with the rules of parties' networks. Each has its own, so
// that Docker Engine and the machine's firewall keep theirs.
const guardTable = "hutong-"

// Guard closes the machine to the containers of the party's network, except the given TCP ports at the
// network's gateway address. Docker Engine alone lets containers, also those of an internal network, reach
// all ports at all addresses of their machine. Guard also refuses what the machine would forward from and to
// the network.
//
// It replaces earlier rules at once. It does nothing on the host network, and on another network that
// runner.docker.network names if that is not internal. It returns ErrNoGuard if this process may not change
// rules, and another error if the kernel has no nftables. It must run on Docker Engine's machine.
func (d *Driver) Guard(ctx context.Context, ports []uint16) error {
	info, err := d.ensureNetwork(ctx)
	if err != nil || !info.internal {
		return driver.WrapError("guard the network "+d.opts.Network, "", err)
	}

	c, err := nftables.New()
	if err == nil {
		addGuard(c, info, ports)
		err = c.Flush()
	}

	return driver.WrapError("guard the network "+d.opts.Network, "", guardError(err))
}

// IsGuarded reports whether the rules of Guard exist. It returns ErrNoGuard if this process may not read
// them.
func (d *Driver) IsGuarded(ctx context.Context) (bool, error) {
	info, err := d.ensureNetwork(ctx)
	if err != nil {
		return false, driver.WrapError("guard the network "+d.opts.Network, "", err)
	}
	guarded, err := isGuarded(info.bridge)

	return guarded, driver.WrapError("read the rules of the network "+d.opts.Network, "", err)
}

func isGuarded(bridge string) (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, guardError(err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, guardError(err)
	}

	return slices.ContainsFunc(tables, func(t *nftables.Table) bool {
		return t.Name == guardTable+bridge
	}), nil
}

// RemoveStaleGuards removes the rules of networks of parties that are gone, which a runner that was killed
// leaves behind, and returns the names of their tables. Rules stay if Docker Engine has a network with their
// interface, or the machine has the interface, perhaps for another Docker Engine. It returns ErrNoGuard if
// this process may not change rules.
//
// A network that is created again meanwhile may lose its rules: its party looks for them regularly.
func (d *Driver) RemoveStaleGuards(ctx context.Context) (removed []string, err error) {
	const doing = "remove the rules of networks that are gone"
	c, err := nftables.New()
	if err != nil {
		return nil, driver.WrapError(doing, "", guardError(err))
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, driver.WrapError(doing, "", guardError(err))
	}
	networks, err := d.calls.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return nil, driver.WrapError(doing, "", classify(err))
	}
	for _, table := range tables {
		bridge := strings.TrimPrefix(table.Name, guardTable)
		if bridge == table.Name || !strings.HasPrefix(bridge, bridgePrefix) {
			continue // not of a network that Hutong creates
		}
		if slices.ContainsFunc(networks, func(n network.Summary) bool { return bridgeOf(n) == bridge }) {
			continue
		}
		if _, err := net.InterfaceByName(bridge); err == nil {
			continue
		}
		c.DelTable(table)
		if err := c.Flush(); err != nil && !errors.Is(err, fs.ErrNotExist) { // another runner was faster
			return removed, driver.WrapError(doing, "", guardError(err))
		}
		removed = append(removed, table.Name)
	}

	return removed, nil
}

// removeGuard removes the rules of a network that is removed. An error leaves rules that match nothing.
func removeGuard(info networkInfo) {
	if c, err := nftables.New(); err == nil {
		c.DelTable(&nftables.Table{Name: guardTable + info.bridge, Family: nftables.TableFamilyINet})
		_ = c.Flush()
	}
}

func guardError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrNoGuard, err)
	}

	return fmt.Errorf("failed to use nftables: %w", err)
}

// addGuard adds the requests that replace a network's rules, which the kernel applies all at once.
func addGuard(c *nftables.Conn, info networkInfo, ports []uint16) {
	table := &nftables.Table{Name: guardTable + info.bridge, Family: nftables.TableFamilyINet}
	c.AddTable(table) // so that the deletion finds one
	c.DelTable(table)
	c.AddTable(table)

	policy := nftables.ChainPolicyAccept
	chain := func(name string, hook *nftables.ChainHook) func(exprs ...[]expr.Any) {
		created := c.AddChain(&nftables.Chain{Name: name, Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: hook, Policy: &policy,
			// Before the machine's own rules. What these accept, others may still refuse.
			Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityFilter - 1)})
		return func(exprs ...[]expr.Any) {
			c.AddRule(&nftables.Rule{Table: table, Chain: created, Exprs: slices.Concat(exprs...)})
		}
	}
	from := matchInterface(expr.MetaKeyIIFNAME, info.bridge)
	to := matchInterface(expr.MetaKeyOIFNAME, info.bridge)

	input := chain("input", nftables.ChainHookInput)
	input(from, matchEstablished(), accept()) // answers of containers that the party calls
	for _, port := range ports {
		input(from, matchTCP(info.gateway, port), accept())
	}
	input(from, refuse())

	forward := chain("forward", nftables.ChainHookForward)
	forward(from, refuse())
	forward(to, refuse())
}

func matchInterface(key expr.MetaKey, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)

	return []expr.Any{&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: padded}}
}

func matchEstablished() []expr.Any {
	return []expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: nlenc.Uint32Bytes(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED),
			Xor:  make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)}}
}

// matchTCP matches IPv4 packets to a TCP port of an address.
func matchTCP(address netip.Addr, port uint16) []expr.Any {
	const destination = 16 // of the IPv4 header
	target := address.As4()

	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.NFPROTO_IPV4}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: destination, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: target[:]},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

// refuse answers that the communication is prohibited, so that a program does not wait for its timeout.
func refuse() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH,
		Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
}
