package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"hutong/internal/identity"
	"hutong/internal/party"
	"hutong/test/testenv/ports"
)

// The user of the OpenID provider, and the hash of the password.
const (
	oidcUser     = "alice@bank.example"
	oidcPassword = "password"
	oidcHash     = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W"
)

// oidcTokenLife is how long id tokens live: long enough to use the pages on a busy machine, and short enough
// that a test sees one expire.
const oidcTokenLife = time.Minute

// oidcLogin is how a test signs in at the OpenID provider of the strict guest.
type oidcLogin struct {
	Issuer   string `json:"issuer"`
	User     string `json:"user"`
	Password string `json:"password"`
	// Missing says why there is none, or is empty.
	Missing string `json:"missing,omitempty"`
}

// addProvider starts an OpenID provider, dex, in a process of its own, and makes a party trust it: its group
// staff has the role viewer. Without the program it does nothing, unless HUTONG_REQUIRE_OIDC is 1.
func (b *builder) addProvider(ctx context.Context, cfg *party.Config) error {
	if _, err := os.Stat(b.dex); err != nil {
		if os.Getenv("HUTONG_REQUIRE_OIDC") == "1" {
			return fmt.Errorf("failed to find the OpenID provider: %w; make console-test builds it", err)
		}
		b.oidc.Missing = "the OpenID provider of the tests is not built: " + b.dex

		return nil
	}
	address, err := ports.Address()
	if err != nil {
		return err
	}
	b.oidc = oidcLogin{Issuer: "http://" + address, User: oidcUser, Password: oidcPassword}
	config, err := json.Marshal(map[string]any{
		"issuer": b.oidc.Issuer, "storage": map[string]any{"type": "memory"},
		"web":    map[string]any{"http": address, "allowedOrigins": []string{"https://" + cfg.Listen}},
		"oauth2": map[string]any{"skipApprovalScreen": true},
		"expiry": map[string]any{"idTokens": oidcTokenLife.String()},
		"staticClients": []any{map[string]any{"id": "hutong", "name": "Hutong", "public": true,
			"redirectURIs": []string{"https://" + cfg.Listen + "/console/"}}},
		"enablePasswordDB": true,
		"staticPasswords": []any{map[string]any{"email": oidcUser, "hash": oidcHash, "username": "alice",
			"emailVerified": true, "userID": "u1", "groups": []string{"staff"}}},
	})
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, "dex.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(b.dir, "dex.log"))
	if err != nil {
		return err
	}
	cmd := exec.Command(b.dex, "serve", file)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	b.stopDex = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	}
	if err := poll(ctx, time.Minute, "the OpenID provider", func() (bool, error) {
		response, err := http.Get(b.oidc.Issuer + "/.well-known/openid-configuration")
		if err != nil {
			return false, nil
		}
		_ = response.Body.Close()

		return response.StatusCode == http.StatusOK, nil
	}); err != nil {
		text, _ := os.ReadFile(log.Name())

		return fmt.Errorf("%w; its log: %s", err, text)
	}
	cfg.OIDC = party.OIDCConfig{Issuer: b.oidc.Issuer, ClientID: "hutong",
		Scopes: []string{"openid", "profile", "email", "groups"}, RolesClaim: "groups",
		Roles: party.RoleMap{"staff": {identity.Viewer}}}

	return nil
}
