package party

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"

	"hutong/internal/partners"
	"hutong/internal/secretfile"
)

// RouteSignConfig names the PEM files of the keys that sign requests, for auth sign and mtls+sign. They are
// read again when they change.
type RouteSignConfig struct {
	// KeyFile is this party's private key: RSA, EC on P-256, or SM2. The key determines the algorithm.
	KeyFile string `yaml:"key_file,omitempty"`
	// PartnerKeyFile has the partner's public key or certificate. While the partner replaces its key, put
	// both keys into it.
	PartnerKeyFile string `yaml:"partner_key_file,omitempty"`
}

// RouteFATEConfig names the apps of FATE-Flow's site authentication, for auth fate-site. The files are read
// again when they change.
type RouteFATEConfig struct {
	// AppID and AppTokenFile are the app that FATE-Flow's administrator has made for this party.
	AppID        string `yaml:"app_id,omitempty"`
	AppTokenFile string `yaml:"app_token_file,omitempty"`
	// TheirAppID and TheirAppTokenFile are the app with which FATE-Flow authenticates here. This party's
	// operator chooses them: a token of at least 16 characters.
	TheirAppID        string `yaml:"their_app_id,omitempty"`
	TheirAppTokenFile string `yaml:"their_app_token_file,omitempty"`
}

// routeKeys checks the keys and apps of a route.
func (v *validation) routeKeys(field string, route Route) {
	auth := route.authentication()
	signs := auth == partners.Sign || auth == partners.MTLSSign
	for _, f := range []struct {
		name, value string
		wanted      bool
		auth        string
	}{
		{"sign.key_file", route.Sign.KeyFile, signs, "sign and mtls+sign"},
		{"sign.partner_key_file", route.Sign.PartnerKeyFile, signs, "sign and mtls+sign"},
		{"fate.app_id", route.FATE.AppID, auth == partners.FATESite, "fate-site"},
		{"fate.app_token_file", route.FATE.AppTokenFile, auth == partners.FATESite, "fate-site"},
		{"fate.their_app_id", route.FATE.TheirAppID, auth == partners.FATESite, "fate-site"},
		{"fate.their_app_token_file", route.FATE.TheirAppTokenFile, auth == partners.FATESite,
			"fate-site"},
	} {
		switch {
		case f.wanted && f.value == "":
			v.wrong(field+"."+f.name, "is required by auth %s", auth)
		case !f.wanted && f.value != "":
			v.wrong(field+"."+f.name, "is only for auth %s", f.auth)
		}
	}
}

// openMethods reads the keys of the routes and returns the methods that prove partners.
func (c *Config) openMethods(nonces partners.Nonces, logger *slog.Logger) (
	map[partners.Auth]partners.Method, error) {
	const mib = 1 << 20
	bodies := partners.Bodies{Control: c.Jobs.MaxDocumentBytes,
		// A message may come wrapped in JSON, as base64.
		Transport: 2*int64(c.Transport.MaxMessageMiB)*mib + mib, Dir: c.tempDir()}
	signatures := &partners.Signatures{Node: c.NodeID, Keys: map[string]partners.SignKeys{}, Nonces: nonces,
		Bodies: bodies}
	sites := &partners.FATESites{Node: c.NodeID, Keys: map[string]partners.FATEKeys{}, Nonces: nonces,
		Bodies: bodies}
	apps := map[string]string{}
	for _, node := range slices.Sorted(maps.Keys(c.Routes)) {
		if node == c.NodeID {
			continue
		}
		route, field := c.Routes[node], "routes."+node+"."
		var err error
		switch route.authentication() {
		case partners.Sign, partners.MTLSSign:
			if _, err := secretfile.Read(route.Sign.KeyFile); err != nil {
				return nil, fmt.Errorf("%ssign.key_file: %w", field, err)
			}
			signatures.Keys[node], err = partners.LoadSignKeys(route.Sign.KeyFile, route.Sign.PartnerKeyFile,
				logger)
		case partners.FATESite:
			if other := apps[route.FATE.TheirAppID]; other != "" {
				return nil, fmt.Errorf("%sfate.their_app_id: app %s is also that of node %s: an app proves one node",
					field, route.FATE.TheirAppID, other)
			}
			apps[route.FATE.TheirAppID] = node
			for name, file := range map[string]string{"fate.app_token_file": route.FATE.AppTokenFile,
				"fate.their_app_token_file": route.FATE.TheirAppTokenFile} {
				if _, err := secretfile.Read(file); err != nil {
					return nil, fmt.Errorf("%s%s: %w", field, name, err)
				}
			}
			sites.Keys[node], err = partners.LoadFATEKeys(route.FATE.AppID, route.FATE.AppTokenFile,
				route.FATE.TheirAppID, route.FATE.TheirAppTokenFile, logger)
		}
		if err != nil {
			return nil, fmt.Errorf("%s%w", field, err)
		}
	}
	return map[partners.Auth]partners.Method{partners.Sign: signatures, partners.MTLSSign: signatures,
		partners.FATESite: sites}, nil
}

// nonces remembers the nonces of partners: in the database once it is open, for all processes of the party. A
// transport in a process of its own has no database and remembers them in memory.
type nonces struct {
	memory   partners.MemoryNonces
	database atomic.Pointer[partners.Nonces]
}

func (n *nonces) use(database partners.Nonces) { n.database.Store(&database) }

// UseNonce implements [partners.Nonces].
func (n *nonces) UseNonce(ctx context.Context, node, nonce, request string) (bool, error) {
	if database := n.database.Load(); database != nil {
		return (*database).UseNonce(ctx, node, nonce, request)
	}
	return n.memory.UseNonce(ctx, node, nonce, request)
}
