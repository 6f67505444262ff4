{{- define "weft-network.name" -}}
{{- default .Release.Name .Values.network.name -}}
{{- end -}}

{{- /* An object of weft.dev: metadata from an entry of the values, and what is left of the entry as
its spec. Takes root, kind, name, entry and, where the kind has one, the network that it is in. */ -}}
{{- define "weft-network.object" -}}
{{- $root := .root -}}
{{- $entry := default dict .entry -}}
{{- $labels := mustMergeOverwrite (dict) (deepCopy (default dict $root.Values.commonLabels)) (deepCopy (default dict $entry.labels)) -}}
{{- $annotations := mustMergeOverwrite (dict) (deepCopy (default dict $root.Values.commonAnnotations)) (deepCopy (default dict $entry.annotations)) -}}
{{- if $root.Values.keep -}}
{{- $_ := set $annotations "helm.sh/resource-policy" "keep" -}}
{{- end -}}
{{- $spec := deepCopy (omit $entry "name" "labels" "annotations" "chaincodeName") -}}
{{- if $entry.chaincodeName -}}
{{- $_ := set $spec "name" $entry.chaincodeName -}}
{{- end -}}
{{- if .network -}}
{{- $_ := set $spec "networkRef" .network -}}
{{- end -}}
apiVersion: weft.dev/v1alpha1
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    app.kubernetes.io/name: {{ $root.Chart.Name }}
    app.kubernetes.io/instance: {{ $root.Release.Name }}
    app.kubernetes.io/managed-by: {{ $root.Release.Service }}
    helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
    {{- with $labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec: {{- toYaml $spec | nindent 2 }}
{{- end -}}
