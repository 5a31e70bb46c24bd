-- Questions that functions ask of the old side, and their answers (docs/protocol.md section 9).

CREATE FUNCTION tandem._ask(question jsonb, timeout interval DEFAULT NULL) RETURNS SETOF jsonb
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tandem_ask';
COMMENT ON FUNCTION tandem._ask(jsonb, interval) IS
  'has a worker ask the old side and returns its answer; gives up when it is silent for the timeout, by default tandem.question_timeout';

CREATE FUNCTION tandem._question_live(question_id bigint) RETURNS boolean
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_question_live';
COMMENT ON FUNCTION tandem._question_live(bigint) IS 'whether somebody waits for the answer';

CREATE FUNCTION tandem.next_question(timeout_ms integer) RETURNS TABLE (question_id bigint, question jsonb)
LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tandem_next_question';
COMMENT ON FUNCTION tandem.next_question(integer) IS 'waits for a question and takes it; no row when none came, which may be before the time is over';

-- The row after the last one, seq 2147483647, tells that the answer has ended, and holds the error if there was one.
CREATE FUNCTION tandem.answer(question_id bigint, seq integer, payload jsonb, last boolean, error jsonb DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT tandem._question_live(question_id) THEN
    RETURN false;
  ELSIF seq < 0 OR seq = 2147483647 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('sequence number %s of an answer is out of range', seq);
  END IF;
  IF payload IS NOT NULL THEN
    INSERT INTO tandem.answer (question_id, seq, payload) VALUES (question_id, seq, payload);
  END IF;
  IF last OR error IS NOT NULL THEN
    INSERT INTO tandem.answer (question_id, seq, payload) VALUES (question_id, 2147483647, error);
  END IF;
  PERFORM tandem._requests_changed();
  RETURN true;
END
$$;
COMMENT ON FUNCTION tandem.answer(bigint, integer, jsonb, boolean, jsonb) IS
  'one row of an answer, numbered upwards; last or an error ends it. False: nobody waits for it any more';

GRANT EXECUTE ON FUNCTION tandem.next_question(integer), tandem.answer(bigint, integer, jsonb, boolean, jsonb)
TO tandem_worker;
