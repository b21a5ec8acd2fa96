package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
)

// The captured registration works byte for byte. It creates, then updates, with the captured answer.
func TestRegisterTwice(t *testing.T) {
	p := newParty(t)
	body := vector(t, "provider_register.request.json")
	r := p.good(post(bfia.PathProviderRegister, body))
	require.JSONEq(t, `{"code":0,"message":"create success"}`, string(r.Body))
	r = p.good(post(bfia.PathProviderRegister, body))
	require.JSONEq(t, string(vector(t, "provider_register.response.json")), string(r.Body))

	var list []struct {
		Name     string                     `json:"name"`
		FullName string                     `json:"provider_name"`
		Metadata map[string]string          `json:"metadata"`
		Parts    map[string]json.RawMessage `json:"components_description"`
	}
	p.good(get(bfia.PathProviderQuery)).into(&list)
	require.Len(t, list, 1)
	require.Equal(t, "unionpay:2.0.0@docker", list[0].FullName)
	require.Equal(t, map[string]string{"base_url": "", "image": "unionpay:2.0.0"}, list[0].Metadata)
	require.Len(t, list[0].Parts, 3)
	var sent struct {
		Parts map[string]json.RawMessage `json:"components_description"`
	}
	require.NoError(t, json.Unmarshal(body, &sent))
	require.JSONEq(t, string(sent.Parts["Intersection"]), string(list[0].Parts["Intersection"]))
}

// Registering one more component, in the specification's form, leaves the provider's other components and
// their images unchanged.
func TestRegisterComponent(t *testing.T) {
	p := newParty(t).withProvider()
	info := func(provider, name string) map[string]any {
		return map[string]any{"imageUrl": "hub/" + name + ":1",
			"component_info": map[string]any{"componentName": name, "title": name, "provider": provider,
				"version": "2.0.0", "description": "d", "desVersion": "1.2.0", "roleList": []string{"guest"},
				"storageEngine": []string{"s3"},
				"inputParam":    []any{}, "inputData": []any{}, "outputData": []any{},
				"result": []any{}, "vendor_field": 1.50}}
	}
	for _, name := range []string{"Union", "Difference", "Union"} {
		r := p.good(post(bfia.PathComponentRegister, info("unionpay", name)))
		require.JSONEq(t, `{"code":0,"msg":"success","data":{}}`, string(r.Body))
	}
	p.good(post(bfia.PathComponentRegister, info("lab", "Union")))
	found, err := p.store.Providers(t.Context(), store.ProviderFilter{})
	require.NoError(t, err)
	require.Len(t, found, 2)
	require.Equal(t, "lab", found[0].Name)
	require.JSONEq(t, `{"base_url":"","image":"hub/Union:1"}`, string(found[0].Metadata))
	require.Len(t, found[1].Components, 5)
	require.Contains(t, string(found[1].Metadata), "unionpay:2.0.0")
	require.Contains(t, string(found[1].Components["Union"]), `"vendor_field":1.5`)
	desc, err := store.NewRegistry(found).Describe("unionpay", "2.0.0", "Difference")
	require.NoError(t, err)
	require.Equal(t, "hub/Difference:1", desc.ImageURL)
	desc, err = store.NewRegistry(found).Describe("unionpay", "2.0.0", "Intersection")
	require.NoError(t, err)
	require.Empty(t, desc.ImageURL, "it runs with its provider's image")

	for _, c := range []struct{ body, words string }{
		{`{}`, "imageUrl: is required"},
		{`{"imageUrl":" ","component_info":{}}`, "imageUrl: is required"},
		{`{"imageUrl":"a"}`, "component_info: is required"},
		{`{"imageUrl":"a","component_info":[]}`, "component_info: is a JSON array, must be an object"},
		{`{"imageUrl":"a","component_info":{"componentName":"c"}}`, "component_info.provider: is required"},
		{`{"imageUrl":"a","component_info":{"componentName":"c","provider":"../p","version":"1"}}`,
			"component_info.provider:"},
		{`{"imageUrl":"a","component_info":{"componentName":"c","provider":"p","version":"1"}}`,
			"component_info.title: is required"},
	} {
		p.bad(post(bfia.PathComponentRegister, c.body), 400, bfia.CodeBadRequest, c.words)
	}
}

func TestQueryAndDeleteProviders(t *testing.T) {
	p := newParty(t).withProvider()
	p.good(post(bfia.PathProviderRegister, strings.ReplaceAll(string(vector(t,
		"provider_register.request.json")), "2.0.0", "2.1.0")))
	for _, c := range []struct {
		call call
		want int
	}{
		{get(bfia.PathProviderQuery), 2},
		{get(bfia.PathProviderQuery + "?version=2.1.0"), 1},
		{get(bfia.PathProviderQuery + "?device=process"), 0},
		{get(bfia.PathProviderQuery + "?provider_name=unionpay:2.0.0@docker"), 1},
		{get(bfia.PathProviderQuery + "?provider_name=unionpay"), 2},
		{call{method: "GET", path: bfia.PathProviderQuery, body: `{"name": "unionpay", "version": "2.0.0"}`},
			1},
		{call{method: "GET", path: bfia.PathProviderQuery, body: `{"name": "nobody"}`}, 0},
	} {
		var list []any
		p.good(c.call).into(&list)
		require.Len(t, list, c.want, "%s %v", c.call.path, c.call.body)
	}
	p.bad(get(bfia.PathProviderQuery+"?provider_name=@docker"), 400, bfia.CodeBadRequest, "provider_name:")
	p.bad(post(bfia.PathProviderDelete, `{}`), 400, bfia.CodeBadRequest, "name or provider_name: is required")
	p.bad(post(bfia.PathProviderDelete, `{"name": "nobody"}`), 404, bfia.CodeNotFound)
	r := p.good(post(bfia.PathProviderDelete, `{"provider_name": "unionpay:2.0.0"}`))
	require.JSONEq(t, `{"count":1}`, string(r.Data))
	var list []any
	p.good(get(bfia.PathProviderQuery)).into(&list)
	require.Len(t, list, 1)
}

func TestRegisterRefuses(t *testing.T) {
	p := newParty(t)
	for name, c := range map[string]struct {
		from, to string
		words    string
	}{
		"no name":   {`"name": "unionpay"`, `"name": ""`, "name: is required"},
		"name type": {`"name": "unionpay"`, `"name": 5`, "name: is a JSON number, must be a string"},
		"device":    {`"device": "docker"`, `"device": "mainframe"`, "device:"},
		"protocol":  {`"protocol": "bfia"`, `"protocol": "soap"`, "protocol:"},
		"image":     {`"image": "unionpay:2.0.0"`, `"image": ""`, "metadata.image: is required"},
		"role list": {`"roleList": [`, `"roleList": "guest", "was": [`, "components_description."},
		"category":  {`"category": "dataset"`, `"category": "a thing"`, "category"},
		"other name": {`"componentName": "Intersection"`, `"componentName": "Union"`,
			`components_description.Intersection.componentName: is "Union"`},
		"no JSON":       {`{`, `[`, "body: is not valid JSON"},
		"version chars": {`"version": "2.0.0"`, `"version": "../2"`, "version:"},
	} {
		t.Run(name, func(t *testing.T) {
			text := string(vector(t, "provider_register.request.json"))
			require.Contains(t, text, c.from)
			r := p.bad(post(bfia.PathProviderRegister, strings.Replace(text, c.from, c.to, 1)), 400,
				bfia.CodeBadRequest, c.words)
			require.Empty(t, r.Msg, "the dialect of /v2 says message")
		})
	}
	p.bad(
		post(
			bfia.PathProviderRegister,
			`{"name":"p","version":"1","device":"process","metadata":{"command":["/bin/sh"]},"components_description":
		{"C":{"componentName":"C","title":"","provider":"p","version":"1","roleList":["guest"],"storageEngine":[],"inputParam":[],"inputData":[],"outputData":[],"result":[]}}}`,
		),
		403,
		bfia.CodeForbidden,
		"metadata.command: /bin/sh is not allowed",
	)
	var list []any
	p.good(get(bfia.PathProviderQuery)).into(&list)
	require.Empty(t, list, "what was refused is not there")
}
