package main

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"hutong/bfia"
)

func TestProvider(t *testing.T) {
	p := newParty(t, map[string]http.HandlerFunc{
		"POST " + bfia.PathProviderRegister: respond(`{"code":0,"message":"create success"}`),
		"GET " + bfia.PathProviderQuery: data(
			[]map[string]any{{"name": "v", "version": "1", "device": "docker",
				"components_description": map[string]any{"B": map[string]any{}, "A": map[string]any{}}}},
		),
		"POST " + bfia.PathProviderDelete: data(map[string]int{"count": 2}),
	})
	status, stdout, _ := p.run(t, "provider", "register", "-f", file(t, `{"name":"v"}`))
	assert.Equal(t, exitOK, status)
	assert.Equal(t, "create success\n", stdout)
	_, stdout, _ = p.run(t, "provider", "list", "--name", "v", "--device", "docker")
	assert.Equal(t, "NAME  VERSION  DEVICE  COMPONENTS\nv     1        docker  A, B\n", stdout)
	_, stdout, _ = p.run(t, "provider", "list", "--json")
	assert.True(t, json.Valid([]byte(stdout)))
	_, stdout, _ = p.run(t, "provider", "delete", "v", "--version", "1")
	assert.Equal(t, "provider v: 2 deleted\n", stdout)
	asked := p.requests()
	assert.JSONEq(t, `{"name":"v"}`, asked[0].body)
	assert.Equal(t, "device=docker&name=v", asked[1].query)
	assert.JSONEq(t, `{"name":"v","version":"1"}`, asked[3].body)
}

func TestProviderAllow(t *testing.T) {
	p := newParty(t, map[string]http.HandlerFunc{
		"POST " + bfia.PathProviderAllow: data(map[string]int{"count": 1})})
	status, stdout, _ := p.run(t, "provider", "allow", "fate:2.2.0@docker", "writable,root")
	assert.Equal(t, exitOK, status)
	assert.Equal(t, "allowed: root,writable\n", stdout)
	_, stdout, _ = p.run(t, "provider", "allow", "fate:2.2.0", "none")
	assert.Equal(t, "allowed: none\n", stdout)
	for _, args := range [][]string{{"fate", "root"}, {"fate:1", "privileged"}, {"fate:1"}} {
		status, _, _ = p.run(t, append([]string{"provider", "allow"}, args...)...)
		assert.NotEqual(t, exitOK, status, args)
	}
	asked := p.requests()
	assert.Len(t, asked, 2)
	assert.JSONEq(t, `{"name":"fate","version":"2.2.0","device":"docker","allow":{"root":true,"writable":true}}`,
		asked[0].body)
	assert.JSONEq(t, `{"name":"fate","version":"2.2.0","allow":{}}`, asked[1].body)
}

// TestProviderShowsImages checks that 'provider show' says which runner has resolved an image to which id.
func TestProviderShowsImages(t *testing.T) {
	p := newParty(t, map[string]http.HandlerFunc{"GET " + bfia.PathProviderQuery: data([]map[string]any{{
		"provider_name": "p:1@docker", "metadata": map[string]any{"image": "p:1"},
		"components_description": map[string]any{"C": map[string]any{}},
		"images": []bfia.ProviderImage{{Reference: "p:1", IDs: map[string]string{"r2": "sha256:1",
			"r1": "sha256:1", "r3": "sha256:2"}}, {Reference: "own:1"}}}})})
	status, shown, _ := p.run(t, "provider", "show", "p")
	assert.Equal(t, exitOK, status)
	assert.Contains(t, shown, "image       p:1: sha256:1 on r1, r2; sha256:2 on r3\n")
	assert.Contains(t, shown, "image       own:1: not resolved yet\n")
}
