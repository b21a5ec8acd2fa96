package store

import (
	"context"
	"maps"
	"slices"
	"strings"

	"hutong/bfia"
)

// Describe returns a function that finds the descriptions of components among the registered providers. If a
// version is registered for several devices, any of them that has the component suffices: a version has the
// same descriptions everywhere.
func (s *Store) Describe(ctx context.Context) bfia.Describe {
	// A plan asks for each of its components; often they are the same, or of one provider.
	byName, parsed := map[string][]Provider{}, map[[3]string]*bfia.Description{}
	return func(provider, version, component string) (*bfia.Description, error) {
		key := [3]string{provider, version, component}
		if d, ok := parsed[key]; ok {
			return d, nil
		}
		found, ok := byName[provider]
		if !ok {
			var err error
			if found, err = s.Providers(ctx, ProviderFilter{Name: provider}); err != nil {
				return nil, err
			}
			byName[provider] = found
		}
		if len(found) == 0 {
			return nil, bfia.Errorf(bfia.CodeNotFound,
				"provider: %q is not registered; register it with 'hutong provider register'", provider)
		}
		versions, components := map[string]bool{}, map[string]bool{}
		for _, p := range found {
			versions[p.Version] = true
			if p.Version != version {
				continue
			}
			if raw, ok := p.Components[component]; ok {
				d, err := bfia.ParseDescription(component, raw)
				if err == nil {
					parsed[key] = d
				}
				return d, err
			}
			for name := range p.Components {
				components[name] = true
			}
		}
		if !versions[version] {
			return nil, bfia.Errorf(bfia.CodeNotFound,
				"version: provider %q is registered in version %s, not %q", provider, list(versions), version)
		}
		return nil, bfia.Errorf(bfia.CodeNotFound,
			"componentName: provider %s:%s has no component %q, it has %s", provider, version, component,
			list(components))
	}
}

func list(set map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(set)), ", ") }
