{# The text of a key of a `column` of json, which may have what text cannot: NUL, or half of a surrogate pair. U+FFFD stands for
   these, whichever key has them, so that one request does not fail the question about all. #}
(CASE WHEN strpos(concat({{ column }}), E'\\u'::text) > 0
      THEN regexp_replace(
          concat({{ column }}),
          E'(?<!\\\\)((?:\\\\\\\\)*)\\\\u(?:0000|[dD][89aAbB]..(?!\\\\u[dD][c-fC-F]))|(?<!\\\\)((?:\\\\\\\\)*)(?<!\\\\u[dD][89aAbB]..)\\\\u[dD][c-fC-F]..'::text,
          E'\\1\\2\\\\uFFFD'::text, 'g'::text
      )::json
      ELSE {{ column }} END ->> {{ key }})
