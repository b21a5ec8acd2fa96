package bfia

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"
)

// requireRefused checks that input from outside is refused with an [Error] that is not an internal one.
func requireRefused(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Message == "" || e.Code == CodeInternal {
		t.Fatalf("no refusal of ours: %v", err)
	}
}

func FuzzDocument(f *testing.F) {
	f.Add(vector(f, "job_create_all.request.json"))
	f.Add([]byte(testJob))
	f.Add([]byte(smallDocument + `,"job_id":"1","x":1e400}`))
	f.Add(
		[]byte(
			`{"dag":{"components":[{"name":"a","componentName":"psi","provider":"lab","version":"1","input":[{"type":"dataset","key":"a.d"}],"output":[{"type":"dataset","key":"d"}]}]},"config":{"role":{"guest":["A"]},"initiator":{"node_id":"A"}}}`,
		),
	)
	seed, components := registered(f, vector(f, "provider_register.request.json")), testComponents(f)
	describe := func(provider, version, component string) (*Description, error) {
		if provider == "lab" {
			return components(provider, version, component)
		}
		return seed(provider, version, component)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		doc, err := ParseDocument(body)
		if err != nil {
			requireRefused(t, err)
			return
		}
		again, err := ParseDocument(doc.Bytes())
		if err != nil {
			t.Fatalf("our own encoding is refused: %v", err)
		}
		if !bytes.Equal(doc.Bytes(), again.Bytes()) {
			t.Fatalf("the document changes on its way:\n%s\n%s", doc.Bytes(), again.Bytes())
		}
		plan, err := NewPlan(doc, describe, "")
		if err != nil {
			requireRefused(t, err)
			return
		}
		if len(plan.Tasks) != len(doc.DAG.Components) {
			t.Fatalf("%d tasks of %d components", len(plan.Tasks), len(doc.DAG.Components))
		}
		ids := map[string]string{}
		for _, task := range plan.Tasks {
			for _, d := range task.DependsOn {
				if ids[d] == "" {
					t.Fatalf("%s comes before %s, on which it depends", task.Name, d)
				}
			}
			ids[task.Name] = "t-" + task.Name
			for _, part := range task.Parts {
				run, err := NewContainerSpec(doc, describe, task.Name, part, ids)
				if err != nil {
					t.Fatalf("what was planned can't be run: %v", err)
				}
				for name, value := range Environment(run, System{}) {
					if bytes.ContainsAny([]byte(name), "=\x00") || bytes.IndexByte([]byte(value), 0) >= 0 {
						t.Fatalf("no environment variable: %q=%q", name, value)
					}
				}
			}
		}
	})
}

func FuzzRegistration(f *testing.F) {
	f.Add(vector(f, "provider_register.request.json"))
	f.Add(
		[]byte(
			`{"name":"a","version":"1","device":"process","metadata":{"command":["a"]},"components_description":{"c":{"componentName":"c","title":"","provider":"","version":"","roleList":["guest"],"storageEngine":[],"inputParam":[{"name":"p","type":"int","optional":false}],"inputData":[],"outputData":[],"result":[]}}}`,
		),
	)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseRegistration(body)
		if err != nil {
			requireRefused(t, err)
			return
		}
		if r.Name == "" || r.Version == "" || len(r.Description) == 0 {
			t.Fatalf("incomplete: %+v", r)
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRegistration(b)
		if err != nil {
			t.Fatalf("our own encoding is refused: %v", err)
		}
		if again.FullName() != r.FullName() ||
			!slices.Equal(sortedKeys(again.Description), sortedKeys(r.Description)) {
			t.Fatalf("%s became %s", r.FullName(), again.FullName())
		}
	})
}

func FuzzComponent(f *testing.F) {
	f.Add(
		[]byte(
			`{"imageUrl":"a:1","component_info":{"componentName":"c","title":"","provider":"p","version":"1","roleList":["guest"],"storageEngine":[],"inputParam":[],"inputData":[],"outputData":[],"result":[]}}`,
		),
	)
	f.Add([]byte(`{"imageUrl":"<a>","component_info":{"imageUrl":7}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseComponent(body)
		if err != nil {
			requireRefused(t, err)
			return
		}
		name := sortedKeys(r.Description)[0]
		d, err := ParseDescription(name, r.Description[name])
		if err != nil || d.ImageURL != r.Metadata.Image || d.Provider != r.Name || d.Version != r.Version {
			t.Fatalf("%+v became %+v: %v", r, d, err)
		}
	})
}

func FuzzParameters(f *testing.F) {
	f.Add(
		[]byte(
			`{"dataset_id":"testspace#test_guest","tol":0.0001,"n":12345678901234567890,"l":[1, {"a" : "b:c, \"d\\"}]}`,
		),
	)
	f.Add([]byte(`{"l":["\" : , \\", 1]}`))
	f.Add([]byte(`{"name":"a","namespace":"b","s":"\u0000\ud800"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var values map[string]json.RawMessage
		if json.Unmarshal(body, &values) != nil {
			return
		}
		if a, _, err := namedDataset(values); err != nil {
			requireRefused(t, err)
		} else if a != nil && (CheckID("", a.Name) != nil || CheckID("", a.Namespace) != nil) {
			t.Fatalf("a dataset that is no place in the storage: %q", a)
		}
		for _, raw := range values {
			text, err := ParameterText(raw)
			if err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
			if raw[0] == '"' {
				continue // the string itself, which ParameterText decodes with encoding/json
			}
			if got, want := number(t, []byte(text)), number(t, raw); !reflect.DeepEqual(got, want) {
				t.Fatalf("%s became %s", raw, text)
			}
			if spacedJSON([]byte(text)) != text {
				t.Fatalf("%q changes when it is written again", text)
			}
		}
	})
}

// number decodes a JSON text and keeps the spelling of numbers.
func number(t *testing.T, raw []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%q is no JSON: %v", raw, err)
	}
	return v
}

func FuzzProviderName(f *testing.F) {
	for _, name := range []string{"unionpay:2.0.0@docker", "a", "@docker", ":1", "a:b:c@d@e", "\xff"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		r, err := ParseProviderName(name)
		if err != nil {
			requireRefused(t, err)
			return
		}
		if again, err := ParseProviderName(r.FullName()); err != nil || again.Name != r.Name ||
			again.Version != r.Version ||
			again.Device != r.Device {
			t.Fatalf("%q became %+v, then %+v (%v)", name, r, again, err)
		}
	})
}
