package api

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow"
)

// hostsJob returns the captured job of two parties, submitted by the host.
func hostsJob(t testing.TB, id string) string {
	t.Helper()
	var fields map[string]any
	require.NoError(t, json.Unmarshal([]byte(withHost(t, id)), &fields))
	fields["config"].(map[string]any)["initiator"] = map[string]any{"role": "host", "node_id": host}
	b, err := json.Marshal(fields)
	require.NoError(t, err)
	return string(b)
}

// TestGrantsOfWholeDAG checks that each component of a job needs a grant on the dataset from which its inputs
// come, not only the component that reads the dataset.
func TestGrantsOfWholeDAG(t *testing.T) {
	p := newParty(t, func(c *Config) { c.GrantsRequired = true }).withProvider().withData()
	document := hostsJob(t, "j1")
	doc, err := bfia.ParseDocument([]byte(document))
	require.NoError(t, err)
	components := map[string]bool{}
	for _, c := range doc.DAG.Components {
		components[c.ComponentName] = true
	}
	require.Greater(t, len(components), 1)

	grant := func(component string) {
		p.good(post(bfia.PathGrantAdd, map[string]any{"partner": host, "component": component,
			"dataset": "testspace#test_guest"}))
	}
	p.bad(post(bfia.PathCreate, document).from(host), 200, bfia.CodeForbidden, "partner: "+host)
	for component := range components {
		r := p.bad(post(bfia.PathCreate, document).from(host), 200, bfia.CodeForbidden,
			"hutong grant add --partner "+host, "/"+component+" --dataset 'testspace#test_guest'")
		require.NotEmpty(t, r.Text())
		grant(component)
	}
	p.good(post(bfia.PathCreate, document).from(host))

	// This party's own jobs need no grant.
	p.good(post(bfia.PathCreate, withHost(t, "j2")).from(guest))
}

// TestGrantsOfFATEFlow checks that a job by FATE-Flow's own protocol needs grants as well.
func TestGrantsOfFATEFlow(t *testing.T) {
	p := newParty(t, func(c *Config) { c.GrantsRequired = true }).withProvider().withData()
	p.peer(fateScheduler, "http://127.0.0.1:1")
	create := post(fateflow.PathJobCreate, fateCommand(fateCreate(t))).with("dest-party-id", guest)
	r := p.send(create)
	require.Contains(t, string(r.Body), "partner: "+fateScheduler+" has no grant at "+guest)
	require.Contains(t, string(r.Body), "--component unionpay/Intersection")
	p.good(post(bfia.PathGrantAdd, map[string]any{"partner": fateScheduler, "component": "*/Intersection",
		"dataset": "testspace#*", "times": 1}))
	p.good(create)
	grants, err := p.store.Grants(t.Context(), fateScheduler)
	require.NoError(t, err)
	require.Equal(t, 1, grants[0].Used)
}

// TestOldJobOfOtherParties checks that a job reuses outputs only of a job with the same parties.
func TestOldJobOfOtherParties(t *testing.T) {
	p := newParty(t, func(c *Config) { c.GrantsRequired = true }).withProvider().withData()
	p.good(post(bfia.PathGrantAdd, map[string]any{"partner": host, "component": "*", "dataset": "*"}))
	p.good(post(bfia.PathCreate, withHost(t, "own")).from(guest))
	p.good(post(bfia.PathCreate, hostsJob(t, "same")).from(host))
	again := func(id, old string) string {
		return strings.Replace(hostsJob(t, id), "{", `{"old_job_id":"`+old+`",`, 1)
	}
	p.bad(post(bfia.PathCreate, again("j2", "own")).from(host), 200, bfia.CodeForbidden, "old_job_id:",
		"no job own of the same initiator and parties")
	p.good(post(bfia.PathCreate, again("j3", "same")).from(host))
}

// TestImagesOfOtherRegistries checks both forms of a registration.
func TestImagesOfOtherRegistries(t *testing.T) {
	p := newParty(t, func(c *Config) {
		c.AllowImage = func(device bfia.Device, reference string) error {
			if strings.HasPrefix(reference, "bad.example/") {
				return errors.New("not allowed for " + string(device))
			}
			return nil
		}
	})
	registration := func(device, image, own string) map[string]any {
		component := map[string]any{"componentName": "C", "title": "", "provider": "p", "version": "1",
			"roleList": []string{"guest"}, "storageEngine": []any{}, "inputParam": []any{},
			"inputData": []any{}, "outputData": []any{}, "result": []any{}}
		if own != "" {
			component["imageUrl"] = own
		}
		return map[string]any{"name": "p", "version": "1", "device": device,
			"metadata":               map[string]any{"image": image},
			"components_description": map[string]any{"C": component}}
	}
	for _, device := range []string{"docker", "k8s"} {
		p.bad(post(bfia.PathProviderRegister, registration(device, "bad.example/a:1", "")), 403,
			bfia.CodeForbidden, "metadata.image: not allowed for "+device)
		p.bad(post(bfia.PathProviderRegister, registration(device, "good.example/a:1", "bad.example/a:1")),
			403, bfia.CodeForbidden, "components_description.C.imageUrl: not allowed for "+device)
		p.good(post(bfia.PathProviderRegister, registration(device, "good.example/a:1", "")))
	}
	info := registration("docker", "", "")["components_description"].(map[string]any)["C"]
	p.bad(post(bfia.PathComponentRegister, map[string]any{"imageUrl": "bad.example/a:1",
		"component_info": info}), 403, bfia.CodeForbidden, "imageUrl: not allowed for docker")
}
