package store

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"

	"hutong/bfia"
)

// Registry holds providers with their components: all that are registered, or those of one job as they were
// at its creation. It is safe for concurrent use.
type Registry struct {
	providers []Provider // by name, version and device

	mu     sync.Mutex
	parsed map[[3]string]*bfia.Description
}

// NewRegistry returns a registry of the given providers, which must be sorted as [Store.Providers] does.
func NewRegistry(providers []Provider) *Registry { return &Registry{providers: providers} }

// RegistryFor reads what is registered now of the providers that a document names.
func (s *Store) RegistryFor(ctx context.Context, doc *bfia.Document) (*Registry, error) {
	names := map[string]bool{}
	for _, c := range doc.DAG.Components {
		names[c.Provider] = true
	}

	var found []Provider
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if checkText("provider", name) != nil {
			continue // no provider has such a name: the plan refuses it
		}
		providers, err := s.Providers(ctx, ProviderFilter{Name: name})
		if err != nil {
			return nil, err
		}
		found = append(found, providers...)
	}
	return NewRegistry(found), nil
}

// Providers returns all providers of the registry. The caller must not change them.
func (r *Registry) Providers() []Provider { return r.providers }

// Entries returns the providers of a name and version that have a component: one for each device.
func (r *Registry) Entries(provider, version, component string) []Provider {
	var entries []Provider
	for _, p := range r.providers {
		if _, has := p.Components[component]; has && p.Name == provider && p.Version == version {
			entries = append(entries, p)
		}
	}
	return entries
}

// Describe returns the description of a component; it is a [bfia.Describe]. If a version is registered for
// several devices, any of them that has the component suffices: a version has the same descriptions
// everywhere. The caller must not change the description.
func (r *Registry) Describe(provider, version, component string) (*bfia.Description, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := [3]string{provider, version, component}
	if d, ok := r.parsed[key]; ok { // a plan asks for each of its tasks; often they are of one component
		return d, nil
	}

	entries := r.Entries(provider, version, component)
	if len(entries) == 0 {
		return nil, r.unknown(provider, version, component)
	}
	d, err := bfia.ParseDescription(component, entries[0].Components[component])
	if err != nil {
		return nil, err
	}
	if r.parsed == nil {
		r.parsed = map[[3]string]*bfia.Description{}
	}
	r.parsed[key] = d
	return d, nil
}

// unknown returns the error that names what is not registered: the provider, its version or its component.
func (r *Registry) unknown(provider, version, component string) error {
	versions, components := map[string]bool{}, map[string]bool{}
	for _, p := range r.providers {
		if p.Name != provider {
			continue
		}
		versions[p.Version] = true
		for name := range p.Components {
			if p.Version == version {
				components[name] = true
			}
		}
	}
	switch {
	case len(versions) == 0:
		return bfia.Errorf(bfia.CodeNotFound,
			"provider: %q is not registered; register it with 'hutong provider register'", provider)
	case !versions[version]:
		return bfia.Errorf(bfia.CodeNotFound,
			"version: provider %q is registered in version %s, not %q", provider, list(versions), version)
	}
	return bfia.Errorf(bfia.CodeNotFound,
		"componentName: provider %s:%s has no component %q, it has %s%s", provider, version, component,
		list(components), bfia.DidYouMean(component, slices.Collect(maps.Keys(components))))
}

// Of returns the part of the registry that a document needs: the components that its tasks run.
func (r *Registry) Of(doc *bfia.Document) *Registry {
	type version struct{ provider, version string }
	needed := map[version]map[string]bool{}
	for _, c := range doc.DAG.Components {
		v := version{c.Provider, c.Version}
		if needed[v] == nil {
			needed[v] = map[string]bool{}
		}
		needed[v][c.ComponentName] = true
	}

	var kept []Provider
	for _, p := range r.providers {
		components := maps.Clone(p.Components)
		maps.DeleteFunc(components, func(name string, _ json.RawMessage) bool {
			return !needed[version{p.Name, p.Version}][name]
		})
		if len(components) > 0 {
			p.Components = components
			kept = append(kept, p)
		}
	}
	return NewRegistry(kept)
}

func list(set map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(set)), ", ") }
