package docker_test

import (
	"crypto/rand"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// addTable adds an nftables table without rules until the test ends.
func addTable(t *testing.T, name string) {
	t.Helper()
	c, err := nftables.New()
	require.NoError(t, err)
	table := c.AddTable(&nftables.Table{Name: name, Family: nftables.TableFamilyINet})
	require.NoError(t, c.Flush())
	t.Cleanup(func() {
		c.DelTable(table)
		_ = c.Flush() // it may be gone
	})
}

func tableNames(t *testing.T) (names []string) {
	t.Helper()
	c, err := nftables.New()
	require.NoError(t, err)
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	require.NoError(t, err)
	for _, table := range tables {
		names = append(names, table.Name)
	}
	return names
}

// TestStaleGuards checks that only the rules of networks that are gone are removed: those of a network, of an
// interface of another Docker Engine, and tables of others stay.
func TestStaleGuards(t *testing.T) {
	needDocker(t)
	r, _, _ := newHostile(t)
	random := func() string {
		var b [5]byte
		_, _ = rand.Read(b[:])
		return fmt.Sprintf("%x", b)
	}
	stale, present := "hutong-ht-"+random(), "ht-"+random()
	others := []string{"hutong-" + random(), "other-ht-" + random(), "hutong-" + present}
	addTable(t, stale)
	for _, name := range others {
		addTable(t, name)
	}
	out, err := exec.Command("ip", "link", "add", present, "type", "bridge").CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", present).Run() })
	_, err = net.InterfaceByName(present)
	require.NoError(t, err)

	removes := func(table string) {
		require.Eventually(t, func() bool { // a runner of another test may be faster
			addTable(t, table)
			removed, err := r.RemoveStaleGuards(t.Context())
			return assert.NoError(t, err) && slices.Contains(removed, table)
		}, time.Minute, time.Millisecond)
	}
	removes(stale)
	names := tableNames(t)
	require.NotContains(t, names, stale)
	require.Subset(t, names, others)
	stays, err := r.IsGuarded(t.Context())
	require.NoError(t, err)
	require.True(t, stays, "the party's own network has its rules")

	require.NoError(t, exec.Command("ip", "link", "del", present).Run())
	removes("hutong-" + present) // since its interface is gone
}
